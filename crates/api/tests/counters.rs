//! The page about counters is the table of counters.

use std::{env, fs, path::Path};

use dynmem_api::counters::{all, markdown};

#[test]
fn the_page_about_counters_is_of_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/counters.md");
    if env::var_os("DYNMEM_REFRESH").is_some() {
        fs::write(&path, markdown()).expect("written");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    for counter in all() {
        let row = format!("| {} | ", counter.name);
        assert!(
            page.contains(&row) && page.contains(counter.prometheus),
            "{} is not in docs/counters.md",
            counter.name
        );
    }
    assert!(page == markdown(), "docs/counters.md is out of date: DYNMEM_REFRESH=1 cargo test -p dynmem-api");
}
