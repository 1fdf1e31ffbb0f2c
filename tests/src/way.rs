//! A way for clients of plain HTTP to a server that speaks HTTPS: it listens on this machine, and speaks TLS to
//! the server, whose certificate it checks.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
        version::TLS13,
    },
};

/// Serves until it is dropped.
pub struct Way {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Way {
    /// To a server with a certificate of this authority (PEM).
    ///
    /// # Errors
    /// If the certificate is malformed, or this machine has no port left.
    pub async fn open(server: SocketAddr, authority: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((server.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let authority = authority.to_owned();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let authority = authority.clone();
                ways.spawn(async move {
                    let name = server.ip().to_string();
                    let secure = shake_hands(server, &name, &authority, &TLS13, b"http/1.1");
                    // The client sees its connection end, whatever went wrong.
                    if let Ok(mut secure) = secure.await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut secure).await;
                    }
                });
            }
        });
        Ok(Self { address, _serving: serving })
    }

    /// Where URLs begin.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A connection to a server that is known by a name and must have a certificate of this authority (PEM).
///
/// # Errors
/// If there is no agreement.
pub async fn shake_hands(
    server: SocketAddr,
    name: &str,
    authority: &str,
    version: &'static SupportedProtocolVersion,
    alpn: &[u8],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(server).await?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}
