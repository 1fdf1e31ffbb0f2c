//! HTTPS for the API and the console: where its certificate comes from, and what whoever speaks plain
//! HTTP is told.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, uri};
use https::{Files, Port};
use tokio_util::sync::CancellationToken;

use crate::{api::problem::Problem, app::App, ca::Authority, clock::Clock, options::Options};

/// A certificate of the authority is made anew that often, long before it ends.
const RENEW_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The operator keeps it in files.
    Files(Files),
    /// The deployment's own authority makes it, for these names and addresses.
    Authority(Vec<String>),
}

impl Source {
    /// As the operator has set it; `None` for plain HTTP.
    ///
    /// # Errors
    /// If others would reach plain HTTP, and the operator has not said that this is meant.
    pub(crate) fn of(options: &Options) -> anyhow::Result<Option<Self>> {
        let files = match (&options.tls_cert, &options.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(Files { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => None,
            _ => bail!("--tls-cert and --tls-key belong together: give both files"),
        };
        let hosts = options.tls_host.clone();
        match (files, hosts.is_empty(), options.insecure_http) {
            (Some(files), true, false) => Ok(Some(Self::Files(files))),
            (None, false, false) => Ok(Some(Self::Authority(hosts))),
            (None, true, true) => Ok(None),
            (None, true, false) if options.listen.ip().to_canonical().is_loopback() => Ok(None),
            (None, true, false) => bail!(
                "the API and the console would be offered on {} over plain HTTP, where everybody on the way \
                 reads passwords. Give a certificate (--tls-cert and --tls-key), or have the deployment's own \
                 authority make one (--tls-host NAME); on a network that you trust, or behind a proxy that ends \
                 TLS, say --insecure-http",
                options.listen
            ),
            _ => bail!("give one of --tls-cert with --tls-key, --tls-host and --insecure-http"),
        }
    }

    pub(crate) fn port(&self, authority: &Authority, clock: &Clock) -> anyhow::Result<Port> {
        let certificate = match self {
            Self::Files(files) => files.read().context("cannot use the TLS certificate")?,
            Self::Authority(hosts) => certify(authority, hosts, clock)?,
        };
        Port::new(certificate).context("cannot set up TLS")
    }

    /// Keeps what the port shows up to date until told to stop.
    pub(crate) async fn keep(&self, app: &App, port: &Port, stop: CancellationToken) {
        let keep = async {
            match self {
                Self::Files(files) => port.follow(files).await,
                Self::Authority(hosts) => loop {
                    tokio::time::sleep(RENEW_EVERY).await;
                    match certify(&app.authority, hosts, &app.clock) {
                        Ok(certificate) => port.show(certificate),
                        Err(error) => {
                            tracing::error!("the TLS certificate was not renewed: {error:#}")
                        }
                    }
                },
            }
        };
        stop.run_until_cancelled(keep).await;
    }
}

fn certify(
    authority: &Authority,
    hosts: &[String],
    clock: &Clock,
) -> anyhow::Result<https::Certificate> {
    authority
        .certify_console(hosts.iter().map(String::as_str), clock.now_ms())
        .context("the deployment's authority cannot make a certificate for --tls-host")
}

/// The HTTPS port of a control plane, and what keeps it up to date.
pub(crate) struct Https {
    pub(crate) source: Source,
    pub(crate) port: Arc<Port>,
}

/// Answers a request that came over plain HTTP: browsers that open a page are sent to HTTPS, and everybody
/// else is told, because what a program sends again by itself would have been read already.
pub(crate) fn instead_of_plain<B>(request: &Request<B>) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response =
        match secure_url(request).filter(|_| is_read && wants_page(request.headers())) {
            Some(url) => {
                let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
                response.headers_mut().insert(header::LOCATION, url);
                response
            }
            None => Problem::https_required().into_response(),
        };
    let headers = response.headers_mut();
    // Browsers would keep the redirect for ever otherwise.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The same page over HTTPS, at the host that the browser asked for.
fn secure_url<B>(request: &Request<B>) -> Option<HeaderValue> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let authority: uri::Authority = host.parse().ok().filter(|_| !host.contains('@'))?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    HeaderValue::from_str(&format!("https://{authority}{path}")).ok()
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("text/html")
    })
}
