//! How the edge becomes part of a deployment: it makes a key pair, asks for a certificate with the
//! operator's token, and keeps the answer. While the control plane is away it asks again.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use link::{TlsError, tls::Trust};
use protocol::{
    ArmourError,
    address::{EdgeAddress, HostPort},
    join::{JOIN_PATH, JoinRequest, JoinResponse, JoinToken},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use zeroize::Zeroizing;

use crate::{
    backoff::Backoff,
    control_plane::{self, ConnectError},
    identity::Identity,
    options::JoinTokenText,
    tasks::Tasks,
};

/// Longest answer that is read, in bytes: two certificates are a few thousand.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the edge could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is not whole, or something else.
    #[error("the join token cannot be read: {0}")]
    Token(#[from] ArmourError),
    /// The control plane does not accept it.
    #[error("the control plane refused the join token ({status}): {detail}")]
    Refused {
        /// Its answer's status.
        status: StatusCode,
        /// Its own words.
        detail: String,
    },
    /// The key pair or the certificate request could not be made.
    #[error("cannot make a certificate request")]
    CertificateRequest(#[from] rcgen::Error),
    /// The certificate that came back is of no use.
    #[error("the control plane's certificate cannot be used")]
    Certificate(#[from] TlsError),
    /// The TLS settings are not valid.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// What went wrong with one attempt.
#[derive(Debug, thiserror::Error)]
enum Attempt {
    #[error(transparent)]
    Fatal(#[from] JoinError),
    #[error("cannot reach the control plane")]
    Connect(#[from] ConnectError),
    #[error("the control plane's answer broke off")]
    Exchange(#[source] link::BoxError),
    #[error("the control plane answered {0}")]
    Status(StatusCode),
    #[error("the control plane's answer cannot be understood")]
    Answer(#[from] serde_json::Error),
}

/// Joins; asks as often as it takes.
///
/// # Errors
/// Only what asking again cannot mend.
pub(crate) async fn join(
    token: &JoinTokenText,
    link: EdgeAddress,
    gateway: HostPort,
    control_planes: &[HostPort],
) -> Result<Identity, JoinError> {
    let address = JoinToken::decode(&token.0)?;
    let key = KeyPair::generate()?;
    let mut names = vec![link.address.host.clone(), gateway.host.clone()];
    names.dedup();
    let request = CertificateParams::new(names)?.serialize_request(&key)?;
    let request =
        JoinRequest { token: token.0.clone(), link, gateway, certificate_request: request.pem()? };
    let tls = tls(&address)?;
    let mut backoff = Backoff::default();
    let mut ways = std::iter::once(&address.control_plane).chain(control_planes).cycle();
    let response = loop {
        let control_plane = ways.next().expect("the token names one");
        match attempt(control_plane, &tls, &request).await {
            Ok(response) => break response,
            Err(Attempt::Fatal(error)) => return Err(error),
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(%control_plane, error, "cannot join yet");
                backoff.wait().await;
            }
        }
    };
    let identity = Identity {
        edge: response.edge,
        control_plane: address.control_plane,
        link: request.link,
        gateway: request.gateway,
        certificate: response.certificate,
        ca_certificate: response.ca_certificate,
        key: Zeroizing::new(key.serialize_pem()),
    };
    identity.server_identity()?;
    tracing::info!(edge.id = %identity.edge, "the edge has joined");
    Ok(identity)
}

fn tls(token: &JoinToken) -> Result<Arc<ClientConfig>, JoinError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(link::tls::verifier(&Trust::Pinned(token.ca_pin))?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn attempt(
    control_plane: &HostPort,
    tls: &Arc<ClientConfig>,
    request: &JoinRequest,
) -> Result<JoinResponse, Attempt> {
    let tasks = Tasks::default();
    let _stop = tasks.stop_on_drop();
    let exchange = async {
        let mut sender = control_plane::connect(control_plane, tls, &tasks).await?;
        let body = serde_json::to_vec(request)?;
        let request = Request::post(control_plane::url(control_plane, JOIN_PATH))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("the path and the header are constants");
        let response =
            sender.send_request(request).await.map_err(|e| Attempt::Exchange(e.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        let body = body.collect().await.map_err(Attempt::Exchange)?.to_bytes();
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        let is_refusal = status.is_client_error()
            && status != StatusCode::TOO_MANY_REQUESTS
            && status != StatusCode::REQUEST_TIMEOUT;
        if is_refusal {
            return Err(JoinError::Refused { status, detail: detail(&body) }.into());
        }
        Err(Attempt::Status(status))
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, exchange).await;
    tasks.stop().await;
    answer.unwrap_or_else(|_| {
        Err(Attempt::Connect(ConnectError::Tcp(io::ErrorKind::TimedOut.into())))
    })
}

/// The readable part of a problem+json body.
fn detail(body: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = ["detail", "title"].iter().find_map(|field| problem[*field].as_str());
    let text = text.unwrap_or("no reason given");
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
