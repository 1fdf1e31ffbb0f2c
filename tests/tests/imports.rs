//! Who may import whom. The walls of the design stand in the crates' manifests; here they are checked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, process::Command};

const PROTOCOL: &str = "postern-protocol";
const LINK: &str = "postern-link";
const HTTPS: &str = "postern-https";
const ROOM: &str = "postern-room";
const CONNECTOR: &str = "postern-connector";
const EDGE: &str = "postern-edge";
const CONTROL_PLANE: &str = "postern-control-plane";
const POSTERN: &str = "postern";
const TESTS: &str = "postern-tests";

/// Each crate of the workspace and the others that it may import, for its tests too.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    (PROTOCOL, &[]),
    (LINK, &[PROTOCOL]),
    (HTTPS, &[]),
    (ROOM, &[]),
    (CONNECTOR, &[PROTOCOL, LINK, ROOM]),
    (EDGE, &[PROTOCOL, LINK, HTTPS, ROOM]),
    (CONTROL_PLANE, &[PROTOCOL, HTTPS, ROOM]),
    (POSTERN, &[PROTOCOL, LINK, HTTPS, ROOM, CONNECTOR, EDGE, CONTROL_PLANE]),
    (TESTS, &[PROTOCOL, LINK, HTTPS, ROOM, CONNECTOR, EDGE, CONTROL_PLANE, POSTERN]),
];

/// The one crate that knows SQL.
const KNOWS_SQL: &str = CONTROL_PLANE;

/// What each crate of the workspace depends on, by package name.
fn manifests() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            (name(package), dependencies.map(name).collect())
        })
        .collect()
}

#[test]
fn crates_import_only_what_the_design_allows() {
    let allowed = BTreeMap::from(MAY_IMPORT);
    let manifests = manifests();
    let known: Vec<&str> = allowed.keys().copied().collect();
    let present: Vec<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(present, known, "every crate of the workspace has its line in the table");

    for (package, dependencies) in &manifests {
        for dependency in dependencies.iter().map(String::as_str) {
            let is_ours = allowed.contains_key(dependency);
            let may = allowed[package.as_str()].contains(&dependency);
            assert!(!is_ours || may, "{package} must not import {dependency}");
        }
    }
}

#[test]
fn only_the_control_plane_knows_sql() {
    let knows_sql = |names: &Vec<String>| names.iter().any(|name| name.starts_with("sqlx"));
    let manifests = manifests();
    let who: Vec<_> = manifests.iter().filter(|(_, names)| knows_sql(names)).collect();
    assert!(matches!(who[..], [(package, _)] if package == KNOWS_SQL), "{who:?}");
}
