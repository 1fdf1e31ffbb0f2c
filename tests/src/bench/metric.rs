//! What is measured, each with its unit.

/// A figure that a work yields for a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Answered requests a second.
    Rate,
    /// Half of the requests took no longer.
    P50,
    /// 99 of 100 requests took no longer.
    P99,
    /// CPU time of both ends for a request.
    CpuPerRequest,
    /// Megabytes of body a second.
    Throughput,
    /// CPU time of both ends for a gigabyte of body.
    CpuPerGigabyte,
    /// CPU time of clients and origin for a request: what measuring costs.
    OwnCpuPerRequest,
    /// How much of all cores nobody used.
    Idle,
    /// Most memory that the clients' end held: the edge.
    NearPeak,
    /// Most memory that the origin's end held: the connector.
    FarPeak,
    /// The edge's memory with two idle links.
    EdgeIdle,
    /// The connector's memory with four idle links.
    ConnectorIdle,
    /// The edge's memory for one more idle link.
    EdgePerLink,
    /// The edge's memory for one more open stream, its client's connection included.
    EdgePerStream,
    /// The connector's memory for one more open stream, the origin's connection included.
    ConnectorPerStream,
    /// Links that an edge took in a second.
    Handshakes,
    /// CPU time of the edge for one link that it took.
    CpuPerHandshake,
    /// Until all four links were up again.
    Recovery,
    /// From the connector's start to the first answer through it.
    ColdStart,
}

impl Metric {
    /// Name in the JSON file, with the unit.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rate => "requests_per_second",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::CpuPerRequest => "cpu_us_per_request",
            Self::Throughput => "megabytes_per_second",
            Self::CpuPerGigabyte => "cpu_seconds_per_gigabyte",
            Self::OwnCpuPerRequest => "load_cpu_us_per_request",
            Self::Idle => "idle_percent",
            Self::NearPeak => "near_peak_mib",
            Self::FarPeak => "far_peak_mib",
            Self::EdgeIdle => "edge_idle_mib",
            Self::ConnectorIdle => "connector_idle_mib",
            Self::EdgePerLink => "edge_kib_per_link",
            Self::EdgePerStream => "edge_kib_per_stream",
            Self::ConnectorPerStream => "connector_kib_per_stream",
            Self::Handshakes => "handshakes_per_second",
            Self::CpuPerHandshake => "edge_cpu_us_per_handshake",
            Self::Recovery => "recovery_seconds",
            Self::ColdStart => "cold_start_ms",
        }
    }

    /// Head of a column, with the unit.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rate => "requests/s",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::CpuPerRequest => "CPU µs/request",
            Self::Throughput => "MB/s",
            Self::CpuPerGigabyte => "CPU s/GB",
            Self::OwnCpuPerRequest => "load CPU µs",
            Self::Idle => "idle %",
            Self::NearPeak => "near end MiB",
            Self::FarPeak => "far end MiB",
            Self::EdgeIdle => "edge idle MiB",
            Self::ConnectorIdle => "connector idle MiB",
            Self::EdgePerLink => "edge KiB/link",
            Self::EdgePerStream => "edge KiB/stream",
            Self::ConnectorPerStream => "connector KiB/stream",
            Self::Handshakes => "handshakes/s",
            Self::CpuPerHandshake => "edge CPU µs/handshake",
            Self::Recovery => "seconds",
            Self::ColdStart => "ms",
        }
    }

    /// A value, as precise as its size deserves.
    pub fn show(self, value: f64) -> String {
        match value.abs() {
            0.0 => "0".to_owned(),
            size if size < 10.0 => format!("{value:.2}"),
            size if size < 100.0 => format!("{value:.1}"),
            _ => thousands(value),
        }
    }
}

/// A whole number with its thousands set apart.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) && !shown.ends_with('-') {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_precisely_as_their_size_deserves() {
        let show = |value| Metric::Rate.show(value);
        let shown = [0.0, 1.234, 56.78, 999.4, 1_234_567.0, -4321.0].map(show);
        assert_eq!(shown, ["0", "1.23", "56.8", "999", "1,234,567", "-4,321"]);
    }
}
