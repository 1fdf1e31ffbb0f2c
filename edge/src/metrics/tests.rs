use tokio_util::task::AbortOnDropHandle;

use super::*;

#[test]
fn every_metric_has_its_name_its_help_and_its_labels() {
    let metrics = Metrics::new(2).unwrap();
    for (outcome, text) in Outcome::all() {
        metrics.request(outcome);
        let line = format!("postern_edge_requests_total{{outcome=\"{text}\"}} 1\n");
        let text = metrics.render(std::iter::empty(), 0, Duration::ZERO);
        assert!(text.contains(&line), "{line}");
    }
    let mut phases = Phases::default();
    phases.set(Phase::Policy, 40);
    metrics.phases(&phases);
    let links = [None, Some(Strain::Stuck)].map(|s| (Transport::Http2, WorkerId::FIRST, s));
    let client = metrics.client(WorkerId::FIRST);
    let text = metrics.render(links.into_iter(), 7, Duration::from_secs(2));
    for line in [
        "postern_edge_phase_seconds_bucket{phase=\"policy\",le=\"0.00005\"} 1\n",
        "postern_edge_feed_generation 7\n",
        "postern_edge_feed_age_seconds 2\n",
        "postern_edge_links{transport=\"quic\"} 0\n",
        "postern_edge_links{transport=\"http2\"} 2\n",
        "postern_edge_strained_links{strain=\"crowded\"} 0\n",
        "postern_edge_strained_links{strain=\"stuck\"} 1\n",
        "postern_edge_worker_links{worker=\"0\"} 2\n",
        "postern_edge_worker_links{worker=\"1\"} 0\n",
        "postern_edge_worker_clients{worker=\"0\"} 1\n",
        "postern_edge_link_refusals_total{code=\"bad_proof\"} 0\n",
        "postern_edge_bytes_total{direction=\"down\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    drop(client);
    let after = metrics.render(std::iter::empty(), 7, Duration::ZERO);
    assert!(after.contains("postern_edge_worker_clients{worker=\"0\"} 0\n"));
    for (name, help) in DESCRIPTIONS {
        assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}");
    }
}

/// The process's memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(start_paused = true)]
async fn samples_do_not_pile_up_where_nobody_scrapes() {
    const ROUNDS: usize = 256;
    const SAMPLES: usize = 250_000;
    let metrics = std::sync::Arc::new(Metrics::new(1).unwrap());
    let kept = metrics.clone();
    let tidying = AbortOnDropHandle::new(tokio::spawn(async move {
        kept.tidy(&Registry::new(1, 1)).await;
    }));
    let before = resident();
    // A thread of another test that is stopped in the middle of counting keeps samples from being freed
    // until it runs again.
    let is_bounded = 'rounds: {
        for round in 1..=ROUNDS {
            (0..SAMPLES).for_each(|_| metrics.phases[0].record(0.001));
            tokio::time::sleep(2 * TIDY_EVERY).await;
            let grown = resident().saturating_sub(before);
            if round >= 32 && grown < round * SAMPLES * size_of::<f64>() / 3 {
                break 'rounds true;
            }
        }
        false
    };
    assert!(is_bounded, "samples are never freed");
    drop(tidying);
}
