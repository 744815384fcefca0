//! What Prometheus' own tool says of our page, our alert rules and their tests.
//! The tool comes from Debian's package, unpacked into the build's cache and
//! not installed.

mod common;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::Site;
use dynmem_guest_image::{cache_dir, packages::file_of_package};

fn promtool() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("in the target folder");
    let folder = cache_dir(target).join("prometheus");
    file_of_package("prometheus", "usr/bin/promtool", &folder).expect("promtool can be had")
}

/// Runs the tool to its end; what it said if it found fault.
fn check(tool: &Path, arguments: &[&str], input: &str) -> Result<(), String> {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/prometheus");
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(packaging);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && !arguments.contains(&"metrics") || said.is_empty() { Ok(()) } else { Err(said) }
}

#[tokio::test]
async fn promtool_finds_no_fault_with_the_page_and_the_alerts() {
    let tool = promtool();
    assert_eq!(check(&tool, &["check", "rules", "--lint=all", "--lint-fatal", "dynmem.rules.yml"], ""), Ok(()));
    assert_eq!(check(&tool, &["test", "rules", "dynmem.rules.test.yml"], ""), Ok(()));
    let site = Site::new().await;
    site.run("web01").await;
    site.vm_until("web01", "reports", |vm| vm.counters.reports_taken > 0).await;
    let (_, page) = site.raw("GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(page.contains("dynmem_vm_assigned_bytes{vm=\"web01\"}"), "{page}");
    assert_eq!(check(&tool, &["check", "metrics"], &page), Ok(()));
    let wrong = page.replace("# TYPE dynmem_vm_added_bytes_total counter", "# TYPE dynmem_vm_added_bytes_total gauge");
    assert!(check(&tool, &["check", "metrics"], &wrong).is_err(), "it looks");
}
