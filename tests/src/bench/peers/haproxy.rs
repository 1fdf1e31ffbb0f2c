//! haproxy as a reverse proxy, twice.

use tokio::process::Command;

use super::{Ends, Place, SERVER_NAME, listens, program};
use crate::process::Process;

pub(super) async fn start(place: &Place) -> anyhow::Result<Ends> {
    let (certificate, key) = place.certificate().await?;
    let both = std::fs::read_to_string(&certificate)? + &std::fs::read_to_string(&key)?;
    let both = place.write("both.pem", &both)?;
    let (clients, link) = place.addresses(18_101);
    let hop = |name: &str, bind: &str, server: &str| {
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4096\n\
             defaults\n  mode http\n  http-reuse always\n  timeout connect 10s\n\
             \x20 timeout client 120s\n  timeout server 120s\n  timeout tunnel 120s\n\
             frontend in\n  bind {bind}\n  default_backend out\n\
             backend out\n  server next {server}\n"
        );
        place.write(&format!("{name}.cfg"), &text)
    };
    let near = hop(
        "near",
        &clients.to_string(),
        &format!(
            "{link} ssl ssl-min-ver TLSv1.3 alpn h2 verify required ca-file {certificate} \
             verifyhost {SERVER_NAME} sni str({SERVER_NAME})"
        ),
    )?;
    let far = hop(
        "far",
        &format!("{link} ssl ssl-min-ver TLSv1.3 alpn h2 crt {both}"),
        &place.origin.to_string(),
    )?;
    let haproxy = program("haproxy")?;
    let run = |name: &str, config: &str| {
        let mut command = Command::new(&haproxy);
        command.args(["-db", "-f", config]);
        Process::start(name, command)
    };
    let far = run("far", &far)?;
    listens(link, &[&far]).await?;
    let near = run("near", &near)?;
    listens(clients, &[&near]).await?;
    Ok((clients, near, far))
}
