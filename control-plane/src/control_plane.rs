//! The control plane as a whole: opened, bound, served until told to stop.

use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use protocol::{address::HostPort, join::JoinToken};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api,
    app::{App, Shared},
    auth::{backoff::Backoff, password::Passwords, session},
    ca::Authority,
    clock::Clock,
    edge_port,
    events::Events,
    failures::Failures,
    files, first_run,
    first_run::FirstRun,
    https::{Https, Source},
    listener::{GRACE, Streams},
    options::Options,
    peers::Peers,
    presence::Presence,
    runner::Runner,
    signer::Signer,
    store::{self, Location, Store, audit::Actor},
    traffic::Traffic,
};

/// Runs under way have that long when the control plane stops.
const RUNS_GRACE: Duration = Duration::from_secs(5);
/// How often what is over is swept out: sessions, replaced signing keys.
const SWEEP: Duration = Duration::from_secs(10 * 60);

/// A control plane whose ports are bound. Nothing is served before [`ControlPlane::serve`].
pub struct ControlPlane {
    app: Shared,
    api: TcpListener,
    edges: TcpListener,
    https: Option<Https>,
    tls: rustls::ServerConfig,
    /// Keeps other processes out of the data directory.
    lock: File,
}

impl ControlPlane {
    /// Opens the data directory and binds the ports. On the first start it makes the tenant
    /// `default` and its owner. As long as the owner has no password, it makes a link for choosing one,
    /// which is told here and never again.
    ///
    /// # Errors
    /// If the data directory cannot be used or a port is taken.
    pub async fn open(options: Options) -> anyhow::Result<(Self, Option<FirstRun>)> {
        Self::open_at(options, Clock::system()).await
    }

    /// Like [`ControlPlane::open`], by another clock.
    ///
    /// # Errors
    /// The same.
    pub async fn open_at(
        options: Options,
        clock: Clock,
    ) -> anyhow::Result<(Self, Option<FirstRun>)> {
        let source = Source::of(&options)?;
        let dir = &options.data_dir;
        files::create_dir(dir)
            .with_context(|| format!("cannot create the data directory {}", dir.display()))?;
        let lock = files::lock(dir)
            .with_context(|| format!("cannot use the data directory {}", dir.display()))?;
        let database = options.database()?;
        if let Location::File(file) = &database {
            files::create_private(file).context("cannot create the database")?;
        }
        let store =
            Store::open(&database, clock.now_ms()).await.context("cannot open the database")?;
        let keys = options.keys_dir.as_deref().unwrap_or(dir);
        files::create_dir(keys)
            .with_context(|| format!("cannot create the keys' directory {}", keys.display()))?;
        // Of several control planes that start for the first time, one makes the keys.
        let keys_lock = files::wait_for_lock(keys).await.context("cannot lock the keys")?;
        let is_first_start = first_run::is_due(&store).await?;
        let authority = Authority::open(keys, is_first_start)
            .context("cannot open the certificate authority")?;
        let signer = Signer::open(keys, is_first_start)
            .context("cannot open the key that signs capabilities")?;
        known_authority(&store, &authority).await?;
        let peers = Peers::join(&store, dir, clock.now_ms()).await?;
        let passwords = Passwords::new(options.password_cost).await?;
        let https = match &source {
            None => None,
            Some(source) => {
                let port = Arc::new(source.port(&authority, &clock)?);
                Some(Https { source: source.clone(), port })
            }
        };
        let api = bind(options.listen, "API").await?;
        let edges = bind(options.edge_listen, "edge port").await?;
        let edge_address = match options.edge_listen.port() {
            0 => HostPort::new(options.edge_address.host.clone(), edges.local_addr()?.port())?,
            _ => options.edge_address.clone(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let to_gateways = Arc::new(authority.to_gateways(provider.clone())?);
        let tls = authority.edge_port(&edge_address, provider)?;
        let presence = Presence::load(&store, clock.now_ms()).await?;
        // Last, when nothing can fail any more: a set-up link is told only once.
        let first =
            first_run::prepare(&store, &passwords, &signer, &peers, &options, &clock).await?;
        drop(keys_lock);
        let app = Arc::new(App {
            store,
            clock,
            peers,
            presence,
            traffic: Traffic::default(),
            events: Events::new(),
            passwords,
            logins: Backoff::default(),
            failures: Failures::default(),
            authority,
            signer,
            runner: Runner::new(),
            requests: Streams::default(),
            to_gateways,
            edge_address,
            allow_private_destinations: options.allow_private_destinations,
            secure_cookies: options.secure_cookies || https.is_some(),
        });
        Ok((Self { app, api, https, edges, tls, lock }, first))
    }

    /// Where the API and the console are served.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn api_address(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// How URLs of the API and the console begin: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https.is_some() { "https" } else { "http" }
    }

    /// Where edges dial.
    pub fn edge_address(&self) -> &HostPort {
        &self.app.edge_address
    }

    /// Makes a token with which edges can join for the next 24 hours.
    ///
    /// # Errors
    /// If it cannot be stored.
    pub async fn create_join_token(&self) -> Result<JoinToken, store::Error> {
        Ok(self.app.create_join_token(Actor::System).await?.0)
    }

    /// Serves until told to stop; then lets what is under way finish, within bounds.
    pub async fn serve(self, shutdown: CancellationToken) {
        let Self { app, api, https, edges, tls, lock } = self;
        // Workers outlive the listeners, to store what the last requests brought.
        let workers_stop = CancellationToken::new();
        let mut workers = JoinSet::new();
        workers.spawn({
            let (app, stop) = (app.clone(), workers_stop.clone());
            async move { app.presence.work(&app.store, &app.peers, &app.clock, stop).await }
        });
        workers.spawn({
            let (app, stop) = (app.clone(), workers_stop.clone());
            async move { app.traffic.work(&app.store, &app.clock, stop).await }
        });
        workers.spawn({
            let (app, stop) = (app.clone(), workers_stop.clone());
            async move { app.failures.work(&app, stop).await }
        });
        workers.spawn({
            let (app, stop) = (app.clone(), workers_stop.clone());
            async move { sweep(&app, stop).await }
        });
        workers.spawn({
            let (app, stop) = (app.clone(), workers_stop.clone());
            async move { app.peers.work(&app.store, &app.clock, stop).await }
        });
        workers.spawn({
            let (app, stop) = (app.clone(), workers_stop.clone());
            async move { app.store.hear(stop).await }
        });
        let port = https.as_ref().map(|https| https.port.clone());
        if let Some(Https { source, port }) = https {
            let (app, stop) = (app.clone(), workers_stop.clone());
            workers.spawn(async move { source.keep(&app, &port, stop).await });
        }
        workers.spawn({
            // Streams end first: connections that carry them would not finish by themselves.
            let (app, stop) = (app.clone(), shutdown.clone());
            async move { app.events.work(&app, stop).await }
        });
        tokio::join!(
            api::serve(app.clone(), api, port, shutdown.clone()),
            edge_port::run(app.clone(), edges, tls, shutdown),
        );
        tokio::join!(app.requests.close(GRACE), app.runner.close(RUNS_GRACE));
        workers_stop.cancel();
        workers.join_all().await;
        app.store.close().await;
        drop(lock);
    }
}

/// Runs a control plane that stands alone, until told to stop. Until the owner has chosen a password,
/// each start writes a set-up link to standard error, outside the log, which may be kept.
///
/// # Errors
/// As [`ControlPlane::open`].
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (control_plane, first) = ControlPlane::open(options).await?;
    if let Some(first) = &first {
        let email = &first.owner_email;
        match first.set_up_path() {
            Some(path) => eprintln!(
                "Choose the password of {email}, within 24 hours: {}://{}{}",
                control_plane.scheme(),
                control_plane.api_address()?,
                path.as_str()
            ),
            None => eprintln!("Log in as {email}, with the password that you have set."),
        }
    }
    tracing::info!(
        api = %control_plane.api_address()?,
        edge_address = %control_plane.edge_address(),
        "the control plane serves"
    );
    control_plane.serve(shutdown).await;
    Ok(())
}

/// A control plane with keys of its own would certify edges that nobody trusts.
async fn known_authority(store: &Store, authority: &Authority) -> anyhow::Result<()> {
    let mut db = store.write().await?;
    let pin = store::control_plane::ca_pin(&mut db, authority.pin()).await?;
    db.commit().await?;
    ensure!(
        pin == authority.pin(),
        "ca.key and ca.crt are another deployment's: put those of this deployment in their place"
    );
    Ok(())
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({what})"))
}

async fn sweep(app: &App, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SWEEP);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let now_ms = app.clock.now_ms();
        let swept = async {
            let mut db = app.store.write().await?;
            let (created, used) = (
                now_ms.saturating_sub(session::ABSOLUTE_MS),
                now_ms.saturating_sub(session::IDLE_MS),
            );
            store::session::delete_stale(&mut db, created, used).await?;
            store::one_time_link::delete_stale(&mut db, now_ms).await?;
            store::connector_order::delete_stale(&mut db, now_ms).await?;
            db.commit().await?;
            app.signer.retire_others(&app.store, now_ms).await
        };
        if let Err(error) = swept.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what is over was not swept out");
        }
    }
}
