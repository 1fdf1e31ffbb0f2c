//! What differs between database engines: how they are opened, how a transaction begins, how news
//! travels, and what they call a full disk.
//!
//! Both give the same guarantees. A [`Writer`](super::Writer) is alone at its time from its first
//! statement on, a [`Reader`](super::Reader) sees one state of the database, and what was committed
//! survives a power cut.

use std::path::PathBuf;

use sqlx::{AnyPool, error::DatabaseError, migrate::MigrateError};

use super::{Error, Result};

pub(super) mod postgres;
mod sqlite;

pub(crate) use postgres::DatabaseUrl;

/// Where the database is.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    /// In this file, by SQLite, for one control plane.
    File(PathBuf),
    /// At a PostgreSQL server, for one control plane or more.
    Server(DatabaseUrl),
}

/// The engine in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// A database that is there and has this version's form.
pub(super) struct Opened {
    pub(super) dialect: Dialect,
    /// Its one connection writes.
    pub(super) writer: AnyPool,
    pub(super) readers: AnyPool,
}

impl Dialect {
    pub(super) async fn open(location: &Location) -> Result<Opened> {
        sqlx::any::install_default_drivers();
        let (dialect, (writer, readers)) = match location {
            Location::File(file) => (Self::Sqlite, sqlite::open(file).await?),
            Location::Server(url) => (Self::Postgres, postgres::open(url).await?),
        };
        Ok(Opened { dialect, writer, readers })
    }

    /// Begins a transaction that takes the write lock at once, or first thing: one that reads first and writes later
    /// could otherwise fail in its middle, or write what another has made wrong meanwhile.
    pub(super) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::BEGIN_WRITE,
            Self::Postgres => postgres::BEGIN_WRITE,
        }
    }

    /// What takes the write lock in a transaction that has just begun, where beginning does not.
    pub(super) fn write_lock(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(postgres::WRITE_LOCK),
        }
    }

    /// Begins a transaction that sees one state of the database from its first read on.
    pub(super) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => sqlite::BEGIN_READ,
            Self::Postgres => postgres::BEGIN_READ,
        }
    }
}

/// Does the engine say that its disk is full?
pub(super) fn is_disk_full(error: &dyn DatabaseError) -> bool {
    sqlite::is_disk_full(error) || postgres::is_disk_full(error)
}

fn migration_failed(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::Newer(version),
        error => Error::Migrate(error),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_engines_have_the_same_migrations() {
        let named = |migrator: &sqlx::migrate::Migrator| -> Vec<_> {
            migrator.iter().map(|m| (m.version, m.description.clone())).collect()
        };
        assert_eq!(named(&super::sqlite::MIGRATIONS), named(&super::postgres::MIGRATIONS));
    }
}
