//! nginx as a reverse proxy, twice.

use tokio::process::Command;

use super::{Ends, Place, SERVER_NAME, listens, program};
use crate::process::Process;

pub(super) async fn start(place: &Place) -> anyhow::Result<Ends> {
    let (certificate, key) = place.certificate().await?;
    let (clients, link) = place.addresses(18_081);
    let hop = |name: &str, listen: &str, upstream: &str, more: &str| {
        let (pid, tmp) = (place.at(&format!("{name}.pid")), place.at(&format!("{name}-tmp")));
        let text = format!(
            "daemon off; master_process off; worker_processes 1; error_log stderr; pid {pid};\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 10000000; client_max_body_size 0;\n\
             client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp};\n\
             uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
             map $http_upgrade $upgrade {{ default upgrade; '' ''; }}\n\
             upstream next {{ server {upstream}; keepalive 512; keepalive_requests 10000000; }}\n\
             server {{ listen {listen}; proxy_http_version 1.1;\n\
             proxy_set_header Connection $upgrade; proxy_set_header Upgrade $http_upgrade;\n\
             proxy_buffering off; proxy_request_buffering off; {more} }} }}\n"
        );
        place.write(&format!("{name}.conf"), &text)
    };
    let near = hop(
        "near",
        &clients.to_string(),
        &link.to_string(),
        &format!(
            "location / {{ proxy_pass https://next; proxy_ssl_protocols TLSv1.3;\n\
             proxy_ssl_verify on; proxy_ssl_trusted_certificate {certificate};\n\
             proxy_ssl_name {SERVER_NAME}; proxy_ssl_server_name on; }}"
        ),
    )?;
    let far = hop(
        "far",
        &format!("{link} ssl"),
        &place.origin.to_string(),
        &format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;\n\
             location / {{ proxy_pass http://next; }}"
        ),
    )?;
    let nginx = program("nginx")?;
    let run = |name: &str, config: &str| {
        let mut command = Command::new(&nginx);
        command.args(["-p", &place.at(""), "-c", config]);
        Process::start(name, command)
    };
    let far = run("far", &far)?;
    listens(link, &[&far]).await?;
    let near = run("near", &near)?;
    listens(clients, &[&near]).await?;
    Ok((clients, near, far))
}
