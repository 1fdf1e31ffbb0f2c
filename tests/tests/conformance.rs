//! What the standards say, asked of Postern over both carriers: nothing may differ that is not listed with
//! a reason, and nothing may be listed that does not differ. `make conformance` compares with others.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use postern_tests::{
    bench::postern::CARRIERS,
    conformance::{Stage, way::Kind},
};

#[tokio::test]
async fn nothing_differs_from_the_standards_that_is_not_listed_with_a_reason() {
    let stage = Stage::set(|_| true).await.unwrap();
    let mut tables = stage.tables();
    for carrier in CARRIERS {
        let way = stage.open(Kind::Postern(carrier)).await.unwrap();
        stage.run(&way, &mut tables).await.unwrap();
        way.close().await.unwrap();
    }
    let surprises = tables.surprises();
    assert!(surprises.is_empty(), "{} cases:\n{}", surprises.len(), surprises.join("\n"));
}
