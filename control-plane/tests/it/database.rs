//! The database of one control plane or more: a file, or a fresh database at a server that the test
//! process starts once and that ends with it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use sqlx::{AnyConnection, Connection as _, Executor as _};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// The engine of this run of the suite.
pub const ENGINE: Engine = match env!("CARGO_CRATE_NAME").as_bytes() {
    b"postgres" => Engine::Postgres,
    _ => Engine::Sqlite,
};

/// A database, by what its name or its file is.
#[derive(Clone)]
pub enum Database {
    File(PathBuf),
    Name(String),
}

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

struct Server {
    dir: PathBuf,
    /// Ends when this process does, and its standard input with it.
    _child: Child,
}

impl Database {
    /// A database for a control plane whose data directory is `data`.
    pub fn create(data: &Path) -> Self {
        match ENGINE {
            Engine::Sqlite => Self::File(data.join("postern.db")),
            Engine::Postgres => {
                let name = format!("t{}", uuid::Uuid::now_v7().simple());
                SERVER.execute(&format!("CREATE DATABASE {name}"));
                Self::Name(name)
            }
        }
    }

    /// A file with its URL, for a control plane that is told where its database is.
    pub fn url_file(&self) -> Option<PathBuf> {
        let Self::Name(name) = self else { return None };
        let file = SERVER.dir.join(format!("{name}.url"));
        fs::write(&file, self.url()).unwrap();
        Some(file)
    }

    pub fn url(&self) -> String {
        match self {
            Self::File(file) => format!("sqlite://{}", file.display()),
            Self::Name(name) => SERVER.url(name),
        }
    }

    /// Executes what no control plane would. Returns the number of rows that it changed.
    pub async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.url()).await.unwrap();
        let rows = connection.execute(sql).await.unwrap().rows_affected();
        connection.close().await.unwrap();
        rows
    }

    /// Keeps every writer waiting until it is dropped.
    pub async fn lock(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.url()).await.unwrap();
        let lock = match ENGINE {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN; SELECT generation FROM deployment WHERE id = 1 FOR UPDATE",
        };
        connection.execute(lock).await.unwrap();
        connection
    }

    /// A copy, while no control plane uses it.
    pub fn back_up(&self) -> Self {
        match self {
            Self::File(file) => {
                let backup = file.with_extension("backup");
                fs::copy(file, &backup).unwrap();
                Self::File(backup)
            }
            Self::Name(name) => {
                let backup = format!("{name}_backup");
                SERVER.execute(&format!("CREATE DATABASE {backup} TEMPLATE {name}"));
                Self::Name(backup)
            }
        }
    }

    /// Makes it what it was when `backup` was taken, while no control plane uses it.
    pub fn restore(&self, backup: &Self) {
        match (self, backup) {
            (Self::File(file), Self::File(backup)) => drop(fs::copy(backup, file).unwrap()),
            (Self::Name(name), Self::Name(backup)) => {
                SERVER.execute(&format!("DROP DATABASE {name}"));
                SERVER.execute(&format!("CREATE DATABASE {name} TEMPLATE {backup}"));
            }
            _ => unreachable!("a backup is of the same kind"),
        }
    }

    /// Everything that is in it, as it is stored.
    pub fn dump(&self) -> Vec<u8> {
        match self {
            Self::File(file) => {
                let with_journal = ["", "-wal", "-shm"]
                    .map(|end| fs::read(format!("{}{end}", file.display())).unwrap_or_default());
                with_journal.concat()
            }
            Self::Name(name) => {
                let dump = SERVER.command("pg_dump").arg(name).output().unwrap();
                assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
                dump.stdout
            }
        }
    }
}

impl Server {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tools/postgres");
        let mut child = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script that starts PostgreSQL can be run");
        let mut dir = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut dir).unwrap();
        let dir = dir.trim_end();
        assert!(!dir.is_empty(), "PostgreSQL does not start: see to it by tests/tools/prepare");
        Self { dir: dir.into(), _child: child }
    }

    fn url(&self, name: &str) -> String {
        let socket = self.dir.to_str().unwrap().replace('/', "%2F");
        format!("postgres://postern:postern@{socket}/{name}")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PGHOST", &self.dir).env("PGUSER", "postern").env("PGPASSWORD", "postern");
        command
    }

    fn execute(&self, sql: &str) {
        let mut psql = self.command("psql");
        let done = psql.args(["--quiet", "--dbname=postgres", "--command", sql]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
