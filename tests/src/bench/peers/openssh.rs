//! OpenSSH: a server of the benchmark's own at the clients' end, and a client that dials it and has a
//! port forwarded to itself (`-R`).

use tokio::process::Command;

use super::{Ends, Place, listens, output, program};
use crate::process::Process;

/// sshd does not start as root without this directory, which only its service makes.
const SEPARATION: &str = "/run/sshd";

pub(super) async fn start(place: &Place) -> anyhow::Result<Ends> {
    let (clients, link) = place.addresses(18_111);
    let (host, origin) = (place.host, place.origin);
    for key in ["host", "user"] {
        let mut keygen = Command::new(program("ssh-keygen")?);
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &place.at(key)]);
        output(keygen).await?;
    }
    let mut id = Command::new("id");
    id.arg("-un");
    let user = output(id).await?;
    // It is there, or this is not root and need not have it; else sshd will say so.
    let _ = std::fs::create_dir_all(SEPARATION);
    let config = place.write(
        "sshd.conf",
        &format!(
            "ListenAddress {host}:{port}\nHostKey {host_key}\nAuthorizedKeysFile {user_key}.pub\n\
             PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             GatewayPorts clientspecified\nAllowTcpForwarding remote\nLogLevel ERROR\n",
            port = link.port(),
            host_key = place.at("host"),
            user_key = place.at("user"),
        ),
    )?;
    let mut sshd = Command::new(program("sshd")?);
    sshd.args(["-D", "-e", "-f", &config]);
    let near = Process::start("sshd", sshd)?;
    listens(link, &[&near]).await?;
    let mut ssh = Command::new(program("ssh")?);
    ssh.args(["-F", "none", "-N", "-T", "-i", &place.at("user")])
        .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "ExitOnForwardFailure=yes"])
        .args(["-o", "StrictHostKeyChecking=accept-new"])
        .args(["-o", &format!("UserKnownHostsFile={}", place.at("known_hosts"))])
        .args(["-R", &format!("{clients}:{origin}"), "-p", &link.port().to_string()])
        .arg(format!("{}@{host}", user.trim()));
    let far = Process::start("ssh", ssh)?;
    listens(clients, &[&near, &far]).await?;
    Ok((clients, near, far))
}
