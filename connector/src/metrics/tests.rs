use tokio_util::task::AbortOnDropHandle;

use super::*;

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
    let recorder = recorder().unwrap();
    let samples = metrics::with_local_recorder(&recorder, || histogram!(ORIGIN_PHASE));
    let meter = Arc::new(metrics::with_local_recorder(&recorder, Meter::new));
    let tidying = AbortOnDropHandle::new(tokio::spawn(tidy(recorder.handle(), meter)));
    let before = resident();
    // A thread of another test that is stopped in the middle of counting keeps samples from being freed
    // until it runs again.
    let is_bounded = 'rounds: {
        for round in 1..=ROUNDS {
            (0..SAMPLES).for_each(|_| samples.record(0.001));
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

#[tokio::test(start_paused = true)]
async fn the_ages_of_what_is_under_way_are_shown() {
    let recorder = recorder().unwrap();
    let meter = metrics::with_local_recorder(&recorder, Meter::new);
    let table = meter.table();
    let shown = || {
        meter.show_ages();
        let metrics = recorder.handle().render();
        [IN_FLIGHT, OLDEST_REQUEST, LONGEST_STALL].map(|name| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        })
    };
    let advance = async |seconds| tokio::time::advance(Duration::from_secs(seconds)).await;
    assert_eq!(shown(), [0.0; 3]);
    let request = table.enter();
    advance(3).await;
    request.mark.moves();
    assert_eq!(shown(), [1.0, 3.0, 0.0]);
    advance(4).await;
    assert_eq!(shown(), [1.0, 7.0, 4.0]);
    drop(request);
    assert_eq!(shown(), [0.0; 3]);
}
