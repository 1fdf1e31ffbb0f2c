//! What went through tunnels, by the minute and by the hour, and the latest refusals.

use protocol::{
    id::TunnelId,
    traffic::{Counts, Failure, MAX_FAILURES},
};
use serde::{Deserialize, Serialize};

use super::{Read, Result, Write, json, signed, to_json, unsigned};

/// How traffic is counted, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// By the minute, for a day.
    Minute,
    /// By the hour, for 30 days.
    Hour,
}

impl Step {
    pub(crate) const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    /// Its length, in seconds.
    pub(crate) fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// For how long it is kept, in seconds.
    fn kept(self) -> u64 {
        match self {
            Self::Minute => 24 * 3_600,
            Self::Hour => 30 * 24 * 3_600,
        }
    }

    /// When the step began in which a time lies, in seconds since 1970.
    pub(crate) fn start(self, at_s: u64) -> u64 {
        at_s - at_s % self.seconds()
    }
}

/// As it is stored. What is added later must have a default.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Stored(Counts);

/// Adds what was counted in a minute. False if there is no such tunnel (any more).
pub(crate) async fn add(
    db: &mut impl Write,
    tunnel: TunnelId,
    minute_s: u64,
    counts: &Counts,
) -> Result<bool> {
    if !exists(db, tunnel).await? {
        return Ok(false);
    }
    for step in Step::ALL {
        let start_s = signed(step.start(minute_s));
        // Nobody else writes meanwhile.
        let known = sqlx::query(
            "SELECT counts FROM traffic WHERE tunnel_id = $1 AND step_s = $2 AND start_s = $3",
        )
        .bind(tunnel.to_string())
        .bind(signed(step.seconds()))
        .bind(start_s)
        .fetch_optional(db.connection())
        .await?;
        let known = known.as_ref().map(|row| json::<Stored>(row, "counts")).transpose()?;
        let mut sum = known.map_or_else(Counts::default, |Stored(counts)| counts);
        sum.add(counts);
        sqlx::query(
            "INSERT INTO traffic (tunnel_id, step_s, start_s, counts) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tunnel_id, step_s, start_s) DO UPDATE SET counts = excluded.counts",
        )
        .bind(tunnel.to_string())
        .bind(signed(step.seconds()))
        .bind(start_s)
        .bind(to_json(&Stored(sum)))
        .execute(db.connection())
        .await?;
    }
    Ok(true)
}

/// Remembers refusals, oldest first; the latest [`MAX_FAILURES`] of a tunnel stay.
pub(crate) async fn remember(
    db: &mut impl Write,
    tunnel: TunnelId,
    failures: impl IntoIterator<Item = &Failure>,
) -> Result<()> {
    if !exists(db, tunnel).await? {
        return Ok(());
    }
    for failure in failures {
        sqlx::query(
            "INSERT INTO failure (tunnel_id, number, at_ms, failure)
             SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3 FROM failure WHERE tunnel_id = $1",
        )
        .bind(tunnel.to_string())
        .bind(signed(failure.at_ms))
        .bind(to_json(failure))
        .execute(db.connection())
        .await?;
    }
    sqlx::query(
        "DELETE FROM failure WHERE tunnel_id = $1 AND number <=
             (SELECT MAX(number) FROM failure WHERE tunnel_id = $1) - $2",
    )
    .bind(tunnel.to_string())
    .bind(MAX_FAILURES as i64)
    .execute(db.connection())
    .await?;
    Ok(())
}

async fn exists(db: &mut impl Read, tunnel: TunnelId) -> Result<bool> {
    let row = sqlx::query("SELECT id FROM tunnel WHERE id = $1")
        .bind(tunnel.to_string())
        .fetch_optional(db.connection())
        .await?;
    Ok(row.is_some())
}

/// What was counted since a time, in seconds since 1970; oldest first. Steps without traffic are missing.
pub(crate) async fn since(
    db: &mut impl Read,
    tunnel: TunnelId,
    step: Step,
    since_s: u64,
) -> Result<Vec<(u64, Counts)>> {
    let rows = sqlx::query(
        "SELECT start_s, counts FROM traffic WHERE tunnel_id = $1 AND step_s = $2
         AND start_s >= $3 ORDER BY start_s",
    )
    .bind(tunnel.to_string())
    .bind(signed(step.seconds()))
    .bind(signed(since_s))
    .fetch_all(db.connection())
    .await?;
    let read = |row| Ok((unsigned(row, "start_s")?, json::<Stored>(row, "counts")?.0));
    rows.iter().map(read).collect()
}

/// A tunnel's latest refusals, newest first.
pub(crate) async fn failures(db: &mut impl Read, tunnel: TunnelId) -> Result<Vec<Failure>> {
    let rows = sqlx::query(
        "SELECT failure FROM failure WHERE tunnel_id = $1 ORDER BY at_ms DESC, number DESC",
    )
    .bind(tunnel.to_string())
    .fetch_all(db.connection())
    .await?;
    rows.iter().map(|row| json(row, "failure")).collect()
}

/// Deletes what is older than it is kept.
pub(crate) async fn delete_old(db: &mut impl Write, now_s: u64) -> Result<()> {
    for step in Step::ALL {
        sqlx::query("DELETE FROM traffic WHERE step_s = $1 AND start_s < $2")
            .bind(signed(step.seconds()))
            .bind(signed(now_s.saturating_sub(step.kept() + step.seconds())))
            .execute(db.connection())
            .await?;
    }
    Ok(())
}
