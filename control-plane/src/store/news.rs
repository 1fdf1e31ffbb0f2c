//! News from other control planes on the same database. They come as notifications at the end of
//! the transaction that they tell of. A notification can be lost with its connection; then
//! [`Store::reconcile`], which is called every few seconds, finds what it told of.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tokio_util::sync::CancellationToken;

use super::{
    Result, Store, Write,
    dialect::{Location, postgres},
    run::RunNews,
    to_json,
};

/// After a connection broke, the next one waits that long.
const RETRY: Duration = Duration::from_secs(1);

/// What a transaction has changed that others are to hear of.
pub(super) enum News<'a> {
    Generation(u64),
    /// The audit log has entries without a generation of their own.
    Audit,
    Presence,
    /// Only for those who watch: nothing looks for what was lost.
    Run(&'a RunNews),
}

/// Tells the others once the transaction is committed.
pub(super) async fn tell(db: &mut impl Write, news: &News<'_>) -> Result<()> {
    let sql = match news {
        News::Generation(generation) => format!("NOTIFY {}, '{generation}'", postgres::GENERATION),
        News::Audit => format!("NOTIFY {}", postgres::AUDIT),
        News::Presence => format!("NOTIFY {}", postgres::PRESENCE),
        // Ids and a status: nothing in the JSON needs quoting.
        News::Run(run) => format!("NOTIFY {}, '{}'", postgres::RUN, to_json(run)),
    };
    db.connection().execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

impl Store {
    /// Hears of what other control planes write, until told to stop.
    pub(crate) async fn hear(&self, stop: CancellationToken) {
        let Location::Server(url) = &self.location else { return };
        let pool = postgres::listening(url).expect("the other connections have the same URL");
        while !stop.is_cancelled() {
            let listened = stop.run_until_cancelled(self.hear_once(&pool)).await;
            if let Some(Err(error)) = listened {
                tracing::warn!(error = error.as_source(), "news of other control planes come late");
                stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
        pool.close().await;
    }

    async fn hear_once(&self, pool: &PgPool) -> Result<()> {
        let mut listener = postgres::listen(pool).await?;
        self.reconcile().await?;
        self.expect_presence();
        while let Some(notification) = listener.try_recv().await? {
            let payload = notification.payload();
            match notification.channel() {
                postgres::GENERATION => payload.parse().map_or((), |g| self.announce(g)),
                postgres::AUDIT => self.announce_audit(),
                postgres::RUN => serde_json::from_str(payload).map_or((), |r| self.announce_run(r)),
                _ => self.expect_presence(),
            }
        }
        Ok(())
    }
}
