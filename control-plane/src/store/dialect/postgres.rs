//! PostgreSQL: the database at a server that several control planes can share.

use std::{fmt, str::FromStr as _, time::Duration};

use sqlx::{
    AnyPool, ConnectOptions as _, Connection as _, Executor as _,
    any::AnyPoolOptions,
    error::DatabaseError,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgDatabaseError, PgListener, PgPool, PgPoolOptions},
};
use zeroize::Zeroizing;

use super::{Error, Result, migration_failed};

/// Readers at a time of one control plane; a server has a hundred connections by default.
const READERS: u32 = 8;
/// How long a request waits for a connection before it is told that the database is too busy.
const ACQUIRE: Duration = Duration::from_secs(10);
/// A server that has not answered by then cannot be reached.
const REACH: Duration = Duration::from_secs(10);

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

pub(super) const BEGIN_WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// The lock on the one row of `deployment` is the write lock: every writer takes it first and keeps it
/// to the end. Each later statement therefore sees whatever was committed before, and nothing moves
/// under it. A statement of its own: one that fails together with its BEGIN is never rolled back.
pub(super) const WRITE_LOCK: &str = "SELECT generation FROM deployment WHERE id = 1 FOR UPDATE";
pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A control plane that is stuck or was cut off keeps the write lock from the others no longer than
/// this.
const SETTINGS: &str = "SET application_name = 'postern'; SET lock_timeout = '10s'; \
     SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '10s'";

/// Channels of notifications: new generations, audit entries without one, presence, and the progress of runs.
pub(in crate::store) const GENERATION: &str = "postern_generation";
pub(in crate::store) const AUDIT: &str = "postern_audit";
pub(in crate::store) const PRESENCE: &str = "postern_presence";
pub(in crate::store) const RUN: &str = "postern_run";

/// SQLSTATE of a wrong password, and of a user who may not connect.
const REFUSED: [&str; 2] = ["28P01", "28000"];
/// SQLSTATE of a full disk.
const DISK_FULL: &str = "53100";

/// `postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=verify-full`. Shown nowhere, since it holds a
/// password.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(Zeroizing<String>);

/// A text that is no URL of a PostgreSQL database. It says nothing of what was given.
#[derive(Debug, thiserror::Error)]
#[error("the database's URL must have the form postgres://USER:PASSWORD@HOST/NAME")]
pub(crate) struct BadUrl;

impl DatabaseUrl {
    pub(crate) fn new(url: Zeroizing<String>) -> Result<Self, BadUrl> {
        let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
        if !is_postgres || PgConnectOptions::from_str(&url).is_err() {
            return Err(BadUrl);
        }
        Ok(Self(url))
    }

    fn options(&self) -> Result<PgConnectOptions> {
        Ok(PgConnectOptions::from_str(&self.0)?)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

/// One connection that writes, several that read.
pub(super) async fn open(url: &DatabaseUrl) -> Result<(AnyPool, AnyPool)> {
    // A connection of its own: a pool would keep trying and never say why there is none.
    let options = url.options()?;
    let unreachable = |source| {
        let server = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Error::Unreachable { server, source }
    };
    let connected = tokio::time::timeout(REACH, options.connect()).await;
    let mut connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(sqlx::Error::Database(error))) if is_refusal(&*error) => {
            return Err(Error::Refused(sqlx::Error::Database(error)));
        }
        Ok(Err(error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_)))) => {
            return Err(unreachable(error));
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            return Err(unreachable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        }
    };
    // Control planes that start together wait here for one another.
    MIGRATIONS.run(&mut connection).await.map_err(migration_failed)?;
    connection.close().await?;
    let pool = |connections| {
        AnyPoolOptions::new()
            .max_connections(connections)
            .min_connections(1)
            .acquire_timeout(ACQUIRE)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SETTINGS).await.map(drop) })
            })
    };
    Ok((pool(1).connect(&url.0).await?, pool(READERS).connect(&url.0).await?))
}

/// Of the connection on which notifications arrive.
pub(in crate::store) fn listening(url: &DatabaseUrl) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(1).connect_lazy_with(url.options()?))
}

/// Lets notifications arrive.
pub(in crate::store) async fn listen(pool: &PgPool) -> Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all([GENERATION, AUDIT, PRESENCE, RUN]).await?;
    Ok(listener)
}

fn is_refusal(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| REFUSED.contains(&&*code))
}

pub(super) fn is_disk_full(error: &dyn DatabaseError) -> bool {
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.code() == DISK_FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_and_never_shown() {
        let new = |text: &str| DatabaseUrl::new(Zeroizing::new(text.to_owned()));
        let url =
            new("postgres://postern:hunter2@db.example:5433/postern?sslmode=require").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        for wrong in ["", "db.example", "mysql://u:hunter2@db/x", "postgres://u:hunter2@db:port/x"]
        {
            let error = new(wrong).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{wrong}");
        }
    }
}
