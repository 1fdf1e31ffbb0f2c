//! Builds the crate again when the console was built again: release builds embed it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=../admin-web/dist");
}
