//! rathole: a server at the clients' end, and an agent that dials it over TLS, one connection for each
//! of the clients'.

use anyhow::Context as _;
use tokio::process::Command;

use super::{Ends, Place, SERVER_NAME, listens, output, program};
use crate::process::Process;

/// Of the file that holds certificate and key; it lives as long as the benchmark.
const PASSWORD: &str = "bench";

pub(super) async fn start(place: &Place) -> anyhow::Result<Ends> {
    let (certificate, key) = place.certificate().await?;
    let identity = place.at("identity.pfx");
    let mut openssl = Command::new(program("openssl")?);
    openssl
        .args(["pkcs12", "-export", "-inkey", &key, "-in", &certificate, "-out", &identity])
        .args(["-passout", &format!("pass:{PASSWORD}")]);
    output(openssl).await?;
    let (clients, link) = place.addresses(18_091);
    let origin = place.origin;
    let server = place.write(
        "server.toml",
        &format!(
            "[server]\nbind_addr = \"{link}\"\ndefault_token = \"bench\"\n\
             [server.transport]\ntype = \"tls\"\n\
             [server.transport.tls]\npkcs12 = \"{identity}\"\npkcs12_password = \"{PASSWORD}\"\n\
             [server.services.origin]\nbind_addr = \"{clients}\"\n"
        ),
    )?;
    let agent = place.write(
        "agent.toml",
        &format!(
            "[client]\nremote_addr = \"{link}\"\ndefault_token = \"bench\"\n\
             [client.transport]\ntype = \"tls\"\n\
             [client.transport.tls]\ntrusted_root = \"{certificate}\"\nhostname = \"{SERVER_NAME}\"\n\
             [client.services.origin]\nlocal_addr = \"{origin}\"\n"
        ),
    )?;
    let rathole = program("rathole")?;
    let run = |side: &str, config: &str| {
        let mut command = Command::new(&rathole);
        command.arg(format!("--{side}")).arg(config);
        Process::start(side, command).context("rathole")
    };
    let near = run("server", &server)?;
    let far = run("client", &agent)?;
    listens(clients, &[&near, &far]).await?;
    Ok((clients, near, far))
}
