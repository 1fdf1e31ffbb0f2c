//! The database, and all the SQL there is. It is the truth: every change is one transaction of the
//! changed rows, a new generation and an audit entry, and what was acknowledged survives a power cut.
//!
//! ```text
//! Store::read()   -> Reader   a consistent view; dropped when done
//! Store::write()  -> Writer   rows that no edge and no auditor needs to hear of (runs, presence)
//! Store::change() -> Change   a Writer with a new generation; commit() takes the audit entry
//! Store::record() -> Change   the same without a new generation: what auditors hear of, and edges need not
//! ```
//!
//! One file for each aggregate holds functions over these three. What differs between SQLite and
//! PostgreSQL is in [`dialect`].

use sqlx::{Any, AnyConnection, AnyPool, Row, Transaction, any::AnyRow};
use tokio::sync::{broadcast, watch};

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod connector_order;
pub(crate) mod control_plane;
mod dialect;
pub(crate) mod edge;
pub(crate) mod edge_presence;
pub(crate) mod feed;
pub(crate) mod idempotency;
pub(crate) mod join_token;
pub(crate) mod login_source;
pub(crate) mod names;
mod news;
pub(crate) mod one_time_link;
pub(crate) mod page;
pub(crate) mod presence;
pub(crate) mod proxy_token;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod stamp;
pub(crate) mod team;
pub(crate) mod tenant;
pub(crate) mod token_key;
pub(crate) mod traffic;
pub(crate) mod tunnel;
pub(crate) mod user;
pub(crate) mod workflow;

pub(crate) use dialect::{DatabaseUrl, Location};
use dialect::{Dialect, Opened};
use news::News;

/// Something went wrong between here and the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The row exists already.
    #[error("there is one already")]
    Exists(#[source] sqlx::Error),
    /// The engine said no.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// There is no way to the database's server.
    #[error("the database server {server} cannot be reached")]
    Unreachable {
        /// Host and port, or the socket's path.
        server: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// The server knows another password, or lets this user in no further.
    #[error("the database server refuses the user or the password in the database's URL")]
    Refused(#[source] sqlx::Error),
    /// A migration could not be applied.
    #[error("the database cannot be brought to this version's form")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A later version has changed the database's form.
    #[error("the database was last used by a newer version (its migration {0} is unknown here)")]
    Newer(i64),
    /// A stored value is not what this version writes.
    #[error("the database holds an unreadable {0}")]
    Unreadable(&'static str),
}

impl Error {
    /// Is it only that the row exists already?
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Exists(_))
    }

    /// For logs, which then show what is behind it.
    pub(crate) fn as_source(&self) -> &(dyn std::error::Error + 'static) {
        self
    }

    /// Has the disk no room left?
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if dialect::is_disk_full(&**error))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(e) if e.is_unique_violation() => Self::Exists(error),
            _ => Self::Database(error),
        }
    }
}

/// News of runs that wait for the one task that hears them; when there are more, the oldest are lost.
const RUN_NEWS: usize = 1_024;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    location: Location,
    dialect: Dialect,
    writer: AnyPool,
    readers: AnyPool,
    generation: watch::Sender<u64>,
    /// Moves with entries of the audit log that have no generation of their own.
    audited: watch::Sender<()>,
    presence: watch::Sender<()>,
    runs: broadcast::Sender<run::RunNews>,
    first_generation: u64,
}

impl Store {
    /// Opens the database, creates its file if it is one and is missing, and brings it to this
    /// version's form.
    ///
    /// Generations start anew behind `now_ms`. A database that was restored from a backup would
    /// otherwise count again what edges have heard under other contents; the clock tells the two apart.
    ///
    /// # Errors
    /// If the database cannot be reached, opened, written or migrated.
    pub(crate) async fn open(location: &Location, now_ms: u64) -> Result<Self> {
        let Opened { dialect, writer, readers } = Dialect::open(location).await?;
        let row = sqlx::query(
            "UPDATE deployment
             SET generation = CASE WHEN generation < $1 THEN $1 ELSE generation + 1 END
             WHERE id = 1 RETURNING generation",
        )
        .bind(signed(now_ms))
        .fetch_one(&writer)
        .await?;
        let first_generation = unsigned(&row, "generation")?;
        let generation = watch::Sender::new(first_generation);
        let (location, presence) = (location.clone(), watch::Sender::new(()));
        let runs = broadcast::Sender::new(RUN_NEWS);
        let audited = watch::Sender::new(());
        Ok(Self {
            audited,
            location,
            dialect,
            writer,
            readers,
            generation,
            presence,
            runs,
            first_generation,
        })
    }

    /// May other control planes use the database at the same time?
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.location, Location::Server(_))
    }

    /// The generation at which this process began. Whoever knows an older one is told everything.
    pub(crate) fn first_generation(&self) -> u64 {
        self.first_generation
    }

    /// The newest generation, as far as this process has heard.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Looks up the newest generation: the guarantee behind the notifications.
    pub(crate) async fn reconcile(&self) -> Result<u64> {
        let mut db = self.read().await?;
        let generation = generation(&mut db).await?;
        self.announce(generation);
        Ok(generation)
    }

    /// Moves whenever other control planes may have stored presence.
    pub(crate) fn presence(&self) -> watch::Receiver<()> {
        self.presence.subscribe()
    }

    /// How far runs come, at this control plane and at the others.
    pub(crate) fn runs(&self) -> broadcast::Receiver<run::RunNews> {
        self.runs.subscribe()
    }

    /// Makes a run's progress last, and tells whoever watches.
    pub(crate) async fn commit_run(&self, mut writer: Writer, run: &run::Run) -> Result<()> {
        let news = run::RunNews::from(run);
        if self.is_shared() {
            news::tell(&mut writer, &News::Run(&news)).await?;
        }
        writer.commit().await?;
        if !self.is_shared() {
            self.announce_run(news);
        }
        Ok(())
    }

    fn announce_audit(&self) {
        self.audited.send_replace(());
    }

    fn announce_run(&self, news: run::RunNews) {
        // Nobody may be watching.
        let _ = self.runs.send(news);
    }

    /// Lets presence that others have stored be looked up.
    pub(crate) fn expect_presence(&self) {
        self.presence.send_replace(());
    }

    fn announce(&self, generation: u64) {
        self.generation.send_if_modified(|newest| {
            let is_news = generation > *newest;
            *newest = generation.max(*newest);
            is_news
        });
    }

    /// A consistent view of the database.
    pub(crate) async fn read(&self) -> Result<Reader> {
        Ok(Reader(self.readers.begin_with(self.dialect.begin_read()).await?))
    }

    /// A transaction that writes, alone at its time.
    pub(crate) async fn write(&self) -> Result<Writer> {
        let mut writer = Writer(self.writer.begin_with(self.dialect.begin_write()).await?);
        if let Some(lock) = self.dialect.write_lock() {
            sqlx::query(lock).execute(writer.connection()).await?;
        }
        Ok(writer)
    }

    /// A transaction that writes, with a new generation.
    pub(crate) async fn change(&self) -> Result<Change> {
        let mut writer = self.write().await?;
        let row = sqlx::query(
            "UPDATE deployment SET generation = generation + 1 WHERE id = 1 RETURNING generation",
        )
        .fetch_one(writer.connection())
        .await?;
        let generation = unsigned(&row, "generation")?;
        Ok(Change { writer, generation, is_new: true, store: self.clone() })
    }

    /// A transaction that writes what the audit log tells of, and no edge needs to hear.
    pub(crate) async fn record(&self) -> Result<Change> {
        let mut writer = self.write().await?;
        let generation = generation(&mut writer).await?;
        Ok(Change { writer, generation, is_new: false, store: self.clone() })
    }

    /// Moves whenever the audit log has entries that have no generation of their own.
    pub(crate) fn audited(&self) -> watch::Receiver<()> {
        self.audited.subscribe()
    }

    /// Waits for what is under way and closes the files.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Whatever can be asked.
pub(crate) trait Read: Send {
    /// The connection underneath.
    fn connection(&mut self) -> &mut AnyConnection;
}

/// Whatever can be written to as well.
pub(crate) trait Write: Read {}

/// A consistent view.
pub(crate) struct Reader(Transaction<'static, Any>);

impl Read for Reader {
    fn connection(&mut self) -> &mut AnyConnection {
        &mut self.0
    }
}

/// A transaction that writes; undone unless committed.
pub(crate) struct Writer(Transaction<'static, Any>);

impl Writer {
    /// Makes it last.
    pub(crate) async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }
}

impl Read for Writer {
    fn connection(&mut self) -> &mut AnyConnection {
        &mut self.0
    }
}

impl Write for Writer {}

/// A transaction that the audit log tells of, most often with a new generation; undone unless committed.
pub(crate) struct Change {
    writer: Writer,
    generation: u64,
    is_new: bool,
    store: Store,
}

impl Change {
    /// Makes it last, together with its audit entry, and tells whoever waits for news. Returns the
    /// change's generation.
    pub(crate) async fn commit(self, entry: audit::Entry) -> Result<u64> {
        self.commit_all([entry]).await
    }

    /// The same with several entries.
    pub(crate) async fn commit_all(
        mut self,
        entries: impl IntoIterator<Item = audit::Entry> + Send,
    ) -> Result<u64> {
        for entry in entries.into_iter().collect::<Vec<_>>() {
            audit::append(&mut self, entry).await?;
        }
        if self.store.is_shared() {
            let news = if self.is_new { News::Generation(self.generation) } else { News::Audit };
            news::tell(&mut self.writer, &news).await?;
        }
        self.writer.commit().await?;
        match self.is_new {
            true => self.store.announce(self.generation),
            false => self.store.announce_audit(),
        }
        Ok(self.generation)
    }
}

impl Read for Change {
    fn connection(&mut self) -> &mut AnyConnection {
        self.writer.connection()
    }
}

impl Write for Change {}

async fn generation(db: &mut impl Read) -> Result<u64> {
    let row = sqlx::query("SELECT generation FROM deployment WHERE id = 1")
        .fetch_one(db.connection())
        .await?;
    unsigned(&row, "generation")
}

fn text(row: &AnyRow, column: &'static str) -> Result<String> {
    Ok(row.try_get(column)?)
}

fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &'static str) -> Result<T> {
    text(row, column)?.parse().map_err(|_| Error::Unreadable(column))
}

fn converted<T: TryFrom<String>>(row: &AnyRow, column: &'static str) -> Result<T> {
    text(row, column)?.try_into().map_err(|_| Error::Unreadable(column))
}

fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &'static str) -> Result<T> {
    serde_json::from_str(&text(row, column)?).map_err(|_| Error::Unreadable(column))
}

fn to_json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("the stored types have string keys and cannot fail")
}

fn unsigned(row: &AnyRow, column: &'static str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Error::Unreadable(column))
}

fn unsigned_option(row: &AnyRow, column: &'static str) -> Result<Option<u64>> {
    let Some(value) = row.try_get::<Option<i64>, _>(column)? else { return Ok(None) };
    u64::try_from(value).map(Some).map_err(|_| Error::Unreadable(column))
}

fn truth(row: &AnyRow, column: &'static str) -> Result<bool> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
