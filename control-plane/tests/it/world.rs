//! A control plane of a test's own, on ports that the system picks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use control_plane::{Clock, ControlPlane, FirstRun, Options, PasswordCost};
use protocol::join::JoinToken;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{client::Client, database::Database};

/// The owner's, from the beginning.
const PASSWORD: &str = "horse correct staple";
/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub clock: Clock,
    pub join_token: JoinToken,
    pub owner: Client,
    pub password: String,
    pub database: Database,
    dir: TempDir,
    options: Options,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(Clock::system(), |_| {}).await
    }

    pub async fn start_with(clock: Clock, set: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut options, database) = options_and_database(&data(&dir));
        let password_file = dir.path().join("password");
        std::fs::write(&password_file, PASSWORD).unwrap();
        options.owner_password_file = Some(password_file);
        set(&mut options);
        let (control_plane, first) =
            ControlPlane::open_at(options.clone(), clock.clone()).await.unwrap();
        let FirstRun { owner_email, set_up } = first.expect("the first start");
        assert!(set_up.is_none(), "a password is set");
        let password = PASSWORD.to_owned();
        let join_token = control_plane.create_join_token().await.unwrap();
        let (address, stop, task) = serve(control_plane);
        let mut owner = Client::new(address);
        owner.log_in(&owner_email, &password).await;
        Self { clock, join_token, owner, password, database, dir, options, stop, task }
    }

    /// Stops the control plane and starts it again on the same data.
    pub async fn restart(self) -> Self {
        self.restart_after(|_, _| {}).await
    }

    /// The same, with something done to the database or the data directory in between.
    pub async fn restart_after(self, change: impl FnOnce(&Database, &Path)) -> Self {
        self.stop.cancel();
        self.task.await.unwrap();
        change(&self.database, &data(&self.dir));
        let (control_plane, first) =
            ControlPlane::open_at(self.options.clone(), self.clock.clone()).await.unwrap();
        assert!(first.is_none(), "the second start makes no second owner");
        let join_token = control_plane.create_join_token().await.unwrap();
        let (address, stop, task) = serve(control_plane);
        let mut owner = Client::new(address);
        owner.log_in("owner@localhost", &self.password).await;
        Self { join_token, owner, stop, task, ..self }
    }

    /// Settings of another control plane on the same database, with the same keys.
    pub fn options_of_another(&self) -> (TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        let keys_dir = Some(self.data_dir());
        let options = Options { data_dir: data(&dir), keys_dir, ..self.options.clone() };
        (dir, options)
    }

    /// Starts another control plane on the same database, with the same keys.
    pub async fn join_by_another(&self) -> Self {
        let (dir, options) = self.options_of_another();
        let clock = self.clock.clone();
        let (control_plane, first) =
            ControlPlane::open_at(options.clone(), clock.clone()).await.unwrap();
        assert!(first.is_none(), "there is an owner");
        let join_token = control_plane.create_join_token().await.unwrap();
        let (address, stop, task) = serve(control_plane);
        let mut owner = Client::new(address);
        owner.log_in("owner@localhost", &self.password).await;
        let (password, database) = (self.password.clone(), self.database.clone());
        Self { clock, join_token, owner, password, database, dir, options, stop, task }
    }

    /// Ends the control plane without any goodbye.
    pub async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub fn data_dir(&self) -> PathBuf {
        data(&self.dir)
    }

    /// Stops the control plane; its data directory is there to be looked at.
    pub async fn stop(self) -> (PathBuf, TempDir) {
        self.stop.cancel();
        self.task.await.unwrap();
        (data(&self.dir), self.dir)
    }

    pub fn anonymous(&self) -> Client {
        Client::new(self.owner.address)
    }

    /// Nobody, from another address of this machine.
    pub fn stranger(&self, n: u8) -> Client {
        Client { from: Some([127, 66, 0, n].into()), ..self.anonymous() }
    }

    /// A user of the first tenant, logged in.
    pub async fn user(&self, email: &str, permissions: &[&str]) -> (String, Client) {
        let body = json!({"email": email, "password": "correct horse", "permissions": permissions});
        let user = self.owner.post("/api/v1/users", &body).await.expect(201);
        let mut client = self.anonymous();
        client.log_in(email, "correct horse").await;
        (user["id"].as_str().unwrap().to_owned(), client)
    }

    pub async fn team(&self, name: &str) -> String {
        let team = self.owner.post("/api/v1/teams", &json!({"name": name})).await.expect(201);
        team["id"].as_str().unwrap().to_owned()
    }

    /// The owner of another tenant, logged in.
    pub async fn other_tenant(&self) -> Client {
        let email = "owner@elsewhere.example";
        let body =
            json!({"name": "elsewhere", "owner_email": email, "owner_password": "battery staple"});
        self.owner.post("/api/v1/tenants", &body).await.expect(201);
        let mut client = self.anonymous();
        client.log_in(email, "battery staple").await;
        client
    }
}

/// Below the test's directory, so that the control plane makes it itself.
fn data(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

pub fn serve(
    control_plane: ControlPlane,
) -> (std::net::SocketAddr, CancellationToken, JoinHandle<()>) {
    let address = control_plane.api_address().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(control_plane.serve(stop.clone()));
    (address, stop, task)
}

/// For a control plane with a database of its own.
pub fn options(dir: &Path) -> Options {
    options_and_database(dir).0
}

/// The same, with the database.
pub fn options_and_database(dir: &Path) -> (Options, Database) {
    let database = Database::create(dir);
    let options = Options {
        data_dir: dir.to_owned(),
        database_url_file: database.url_file(),
        keys_dir: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        edge_listen: "127.0.0.1:0".parse().unwrap(),
        edge_address: "127.0.0.1:7843".parse().unwrap(),
        allow_private_destinations: false,
        secure_cookies: false,
        tls_cert: None,
        tls_key: None,
        tls_host: Vec::new(),
        insecure_http: false,
        owner_email: "owner@localhost".to_owned(),
        owner_password_file: None,
        password_cost: PasswordCost { memory_kib: 8, passes: 1 },
    };
    (options, database)
}

/// Asks again until the answer fits, or the patience is over.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}
