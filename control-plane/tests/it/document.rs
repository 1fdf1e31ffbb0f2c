//! The OpenAPI document in the repository is the one that the code makes.

use std::{fs, path::Path};

#[test]
fn the_document_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let current = control_plane::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("POSTERN_UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &current).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == current,
        "docs/openapi.json is out of date: POSTERN_UPDATE=1 cargo test -p postern-control-plane"
    );
}

#[test]
fn every_operation_is_described_and_can_answer_with_a_problem() {
    let document = serde_json::to_value(control_plane::openapi()).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{path}");
        }
    }
    assert!(ids.len() > 30, "{}", ids.len());
}
