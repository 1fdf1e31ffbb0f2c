//! What is shipped beside the programs and cannot be run here, judged by the tools that will read it:
//! Kubernetes manifests and the chart, the systemd unit, compose files, alerts and the dashboard.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use postern_tests::{docker::repository, world::program};
use serde_json::Value;

/// The systemd scale runs from 0, locked in, to 10, as root without limits.
const MOST_EXPOSURE_IN_TENTHS: &str = "--threshold=20";

fn compose(file: &str) -> PathBuf {
    repository().join("compose").join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs a program that must succeed; both of its outputs.
fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    judge(Command::new(program).args(arguments)).unwrap_or_else(|said| panic!("{program}: {said}"))
}

fn judge(command: &mut Command) -> Result<String, String> {
    // The compose files name what their user must give.
    let command = command.env("POSTERN_HOST", "edge.example").env("TUNNEL_SECRET", "secret");
    let output = command.output().map_err(|error| error.to_string())?;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    if output.status.success() { Ok(said.concat()) } else { Err(said.concat()) }
}

/// The chart as `helm template` renders it, with some values given.
fn chart(values: &[&str]) -> Result<String, String> {
    let mut render = Command::new("go");
    render
        .arg("run")
        .arg(repository().join("tests/tools/helm-template/main.go"))
        .arg(compose("helm/postern-connector"))
        .arg("office")
        .args(values)
        // The libraries are Debian's.
        .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")]);
    judge(&mut render)
}

/// Judges manifests by the schemas of the Kubernetes API, which know every field.
fn is_accepted_by_kubernetes(manifests: &Path, count: usize) {
    let python = repository().join("tests/tools/python");
    let arguments = ["-m", "kubernetes_validate", "--strict"].map(OsStr::new);
    let said = run(python.to_str().unwrap(), arguments.into_iter().chain([manifests.as_os_str()]));
    assert_eq!(said.matches(" passed for resource ").count(), count, "{said}");
}

#[test]
fn kubernetes_knows_every_field_of_the_manifests() {
    is_accepted_by_kubernetes(&compose("kubernetes/connector.yaml"), 2);
}

#[test]
fn the_chart_renders_to_manifests_that_kubernetes_knows() {
    let dir = tempfile::tempdir().unwrap();
    let rendered = dir.path().join("rendered.yaml");
    fs::write(&rendered, chart(&["secret=ptn1_x", "settings.LOGLEVEL=debug"]).unwrap()).unwrap();
    is_accepted_by_kubernetes(&rendered, 3);

    let named = chart(&["existingSecret=mine"]).unwrap();
    assert!(named.contains("secretName: mine") && !named.contains("kind: Secret"), "{named}");
    fs::write(&rendered, named).unwrap();
    is_accepted_by_kubernetes(&rendered, 2);

    let refused = chart(&[]).unwrap_err();
    assert!(refused.contains("give existingSecret"), "{refused}");
}

#[test]
fn systemd_takes_the_unit_and_finds_it_locked_in() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("postern-connector.service");
    let connector = program("postern-connector").unwrap();
    let shipped = text("compose/systemd/postern-connector.service");
    // It looks for the program, which need not be installed here.
    let installed = "/usr/local/bin/postern-connector";
    let here = shipped
        .replace(&format!("ExecStart={installed}"), &format!("ExecStart={}", connector.display()));
    assert_ne!(here, shipped);
    fs::write(&unit, here).unwrap();
    let said = run("systemd-analyze", ["verify".as_ref(), "--man=no".as_ref(), unit.as_os_str()]);
    assert_eq!(said, "");
    let flags = ["security", "--offline=true", MOST_EXPOSURE_IN_TENTHS].map(OsStr::new);
    run("systemd-analyze", flags.into_iter().chain([unit.as_os_str()]));
}

#[test]
fn every_service_of_the_compose_files_rotates_its_log_and_has_no_rights() {
    for file in ["connector.yml", "connector-secrets.yml", "quickstart.yml", "production.yml"] {
        let file = compose(file);
        let profile = ["--profile", "connector", "--file"].map(OsStr::new);
        let arguments = profile.into_iter().chain([file.as_os_str(), "config".as_ref()]);
        let config = run("docker-compose", arguments);
        let count = |what: &str| config.matches(what).count();
        let services = count("    image: ");
        assert!(services > 0, "{config}");
        for what in ["max-size: ", "cap_drop:", "no-new-privileges:true", "read_only: true"] {
            assert_eq!(count(what), services, "{what} in {config}");
        }
    }
}

#[test]
fn each_alert_fires_when_it_should() {
    let monitoring = |file| compose("monitoring").join(file).into_os_string();
    run("promtool", ["check".into(), "config".into(), monitoring("prometheus.yml")]);
    run("promtool", ["test".into(), "rules".into(), monitoring("alerts_test.yml")]);
    let (alerts, tested) =
        (text("compose/monitoring/alerts.yml"), text("compose/monitoring/alerts_test.yml"));
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = format!("alertname: {alert}\n        exp_alerts:");
        assert!(tested.contains(&fires), "no test in which {alert} fires");
    }
}

#[test]
fn the_dashboard_has_a_title_and_a_place_for_every_query() {
    let dashboard: Value =
        serde_json::from_str(&text("compose/monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let dir = tempfile::tempdir().unwrap();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (n, panel) in panels.iter().enumerate() {
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            // A variable that Grafana fills in.
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            rules.push_str(&format!("  - record: panel_{n}\n    expr: {}\n", Value::from(query)));
        }
    }
    let file = dir.path().join("queries.yml");
    fs::write(&file, rules).unwrap();
    run("promtool", ["check".as_ref(), "rules".as_ref(), "--lint=none".as_ref(), file.as_os_str()]);
}

#[test]
fn only_metrics_that_exist_are_named() {
    let exported = exported();
    for file in [
        "compose/monitoring/alerts.yml",
        "compose/monitoring/alerts_test.yml",
        "compose/monitoring/dashboard.json",
        "docs/operations.md",
        "README.md",
    ] {
        for metric in metrics(&text(file)) {
            assert!(exported.contains(whole(&metric)), "{file}: there is no {metric}");
        }
    }
}

#[test]
fn every_metric_has_its_row_in_the_manual() {
    let mut documented = BTreeSet::new();
    let mut prefix = None;
    for line in text("docs/operations.md").lines() {
        let first = line.strip_prefix("| ").and_then(|line| line.split(" | ").next());
        let words: Vec<&str> = first.unwrap_or_default().split('`').skip(1).step_by(2).collect();
        match (words.as_slice(), prefix) {
            ([heading], _) if heading.ends_with("_…") => prefix = heading.strip_suffix('…'),
            (names, Some(prefix)) => {
                documented.extend(names.iter().map(|name| format!("{prefix}{name}")));
            }
            _ => {}
        }
        prefix = prefix.filter(|_| line.starts_with('|'));
    }
    assert_eq!(documented, exported());
}

/// The names that the programs give to what they count.
fn exported() -> BTreeSet<String> {
    let names = metrics(&(text("connector/src/metrics.rs") + &text("edge/src/metrics.rs")));
    names.iter().map(|name| whole(name).to_owned()).collect()
}

/// The histogram that a name means a part of.
fn whole(metric: &str) -> &str {
    let mut parts = ["_bucket", "_sum", "_count"].into_iter();
    parts.find_map(|part| metric.strip_suffix(part)).unwrap_or(metric)
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| {
        let name =
            ["postern_connector_", "postern_edge_"].iter().find_map(|p| word.strip_prefix(p));
        name.is_some_and(|name| !name.is_empty())
    });
    ours.map(str::to_owned).collect()
}
