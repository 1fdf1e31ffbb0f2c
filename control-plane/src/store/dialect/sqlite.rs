//! SQLite: the database in a file of the data directory, in write-ahead-log mode.

use std::{path::Path, time::Duration};

use sqlx::{
    AnyPool, Connection as _, Executor, any::AnyPoolOptions, error::DatabaseError,
    migrate::Migrator, sqlite::SqliteError,
};

use super::{Result, migration_failed};

/// Readers at a time; more only queue for the disk.
const READERS: u32 = 4;
/// How long a request waits for a connection before it is told that the database is too busy.
const ACQUIRE: Duration = Duration::from_secs(10);

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";
pub(super) const BEGIN_READ: &str = "BEGIN DEFERRED";

/// With `synchronous=NORMAL` a power cut can lose acknowledged commits in WAL mode; FULL keeps them.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000; PRAGMA secure_delete = ON;";

/// One connection that writes, several that read.
pub(super) async fn open(file: &Path) -> Result<(AnyPool, AnyPool)> {
    let pool = |connections| {
        AnyPoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(PRAGMAS).await.map(drop) })
            })
            // When the disk is full or fails, SQLite ends a transaction by itself, and the driver goes on counting it:
            // every later one on this connection would fail. Another connection takes its place.
            .before_acquire(|connection, _| {
                let is_whole = !connection.is_in_transaction();
                Box::pin(async move { Ok(is_whole) })
            })
    };
    // A relative path would be read as a URL's host.
    let file = std::path::absolute(file).map_err(sqlx::Error::Io)?;
    let url = format!("sqlite://{}?mode=rwc", percent_encoded(&file));
    let writer = pool(1).connect(&url).await?;
    MIGRATIONS.run(&writer).await.map_err(migration_failed)?;
    let readers = pool(READERS).connect(&url).await?;
    Ok((writer, readers))
}

/// SQLITE_FULL, also as an extended code.
pub(super) fn is_disk_full(error: &dyn DatabaseError) -> bool {
    let error = error.try_downcast_ref::<SqliteError>();
    let code = error.and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 13)
}

fn percent_encoded(file: &Path) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(b);
    file.as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|b| if plain(b) { char::from(*b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
