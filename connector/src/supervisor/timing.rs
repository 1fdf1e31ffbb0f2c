//! Every deadline and bound of the supervisor, in one table.

use std::time::Duration;

/// The next rung of an attempt's ladder joins in when the one before has been silent for this long.
pub const NEXT_RUNG: Duration = Duration::from_millis(1_500);
/// The same beside a link in doubt, where somebody waits: enough for QUIC to be first where it works.
pub const NEXT_RUNG_IN_DOUBT: Duration = Duration::from_millis(200);
/// An attempt that nobody has answered is given up.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// The same, when TCP was refused and a link elsewhere shows that the network is well: the edge is
/// not there, and asking afresh meets its return sooner than waiting.
pub const ATTEMPT_AT_CLOSED_DOOR: Duration = Duration::from_secs(2);
/// An attempt to move a link back to QUIC is given up: it would need as long again to be worth it.
pub const ATTEMPT_UPGRADE: Duration = Duration::from_secs(3);

/// Longest rest of an edge after its first failures: most outages are restarts, and are to be met
/// within two seconds of the return.
pub const REST_FIRST: Duration = Duration::from_secs(1);
/// The bound doubles after this many failures in a row.
pub const FAILURES_PER_DOUBLING: u32 = 8;
/// Longest rest of an edge, ever: after a partition heals, four links are up again within 5 s.
pub const REST_MOST: Duration = Duration::from_secs(4);
/// A link that lived this long has shown its edge to be well: the failures before it count no more.
pub const SETTLED: Duration = Duration::from_secs(10);

/// Shortest and longest wait that an edge can ask for by `retry_after`.
pub const RETRY_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(300);
/// Wait after a retryable refusal without `retry_after`.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// Up to this is added to what an edge asked for, so that not all come back in the same moment.
pub const RETRY_AFTER_SMEAR: Duration = Duration::from_secs(1);
/// Wait after a refusal that only a person can change.
pub const FATAL: Duration = Duration::from_secs(300);
/// Wait after a proxy has refused: only a person can change that, and every further try with a wrong
/// password counts against its owner.
pub const PROXY_REFUSED: Duration = Duration::from_secs(30);

/// An edge that said that it drains is the last choice for this long, or until its last link is gone.
pub const DRAINING: Duration = Duration::from_secs(10);
/// A replaced link may finish what is under way on it for this long. Generous: it costs an idle
/// connection, and a stream cut short costs somebody their work.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3_600);
/// Edges that appear while links are up are first used within this time: every connector hears of
/// them in the same moment. A slot without a link does not wait.
pub const NEWCOMER_SMEAR: Duration = Duration::from_secs(20);
/// The same while all links stand on one edge, which may fail.
pub const NEWCOMER_SMEAR_ALONE: Duration = Duration::from_secs(3);

/// Links on HTTP/2 try to move back to QUIC after a wait drawn from this range.
pub const UDP_PROBE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(20)..=Duration::from_secs(40);

/// Each link is pinged this often; the links take turns within it.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A pong that is this late, with no other sign of life, is a miss, and every link is suspect and pinged at
/// once. As short as it can be: requests wait for it where a network has fallen silent.
pub const PONG_WITHIN: Duration = Duration::from_secs(1);
/// A suspect link that has not shown life for this long is in doubt. Long enough for those that are well to
/// answer first.
pub const DOUBT_AFTER: Duration = Duration::from_millis(200);
/// A suspect link is pinged this often, so that its first sign of life comes as soon as the network is well.
pub const PING_SUSPECT_EVERY: Duration = Duration::from_millis(500);
/// A suspect link that has not shown life for this long is dead. With [`PONG_WITHIN`] that is 4 s after the
/// ping: a network that drops everything for 3 s costs no link.
pub const DEAD_AFTER_MISS: Duration = Duration::from_secs(3);
/// All three waits are at least three round trips, which on a line with a full queue may take seconds; but
/// never longer than this.
pub const LONGEST_PATIENCE: Duration = Duration::from_secs(8);

/// Attempts that may begin in one burst: two for each slot.
pub const DIAL_BURST: u32 = 8;
/// One more attempt may begin after each such time.
pub const DIAL_EVERY: Duration = Duration::from_millis(500);
