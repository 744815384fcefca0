//! Changes of settings that are only wanted while the settings are those that
//! somebody has read.

mod common;

use common::{Site, mib, refusal};
use dynmem_api::{AutostartPatch, MemoryPatch, SettingsTag};
use dynmem_definition::Autostart;

fn minimum(mib_wanted: u64) -> MemoryPatch {
    MemoryPatch { minimum: Some(mib(mib_wanted)), ..MemoryPatch::default() }
}

#[tokio::test]
async fn a_change_of_settings_that_somebody_else_has_changed_is_refused_with_what_they_are() {
    let site = Site::new().await;
    site.define("web01").await;
    let (view, read) = site.client.vm_with_tag("web01").await.expect("it exists");
    assert_eq!(read, SettingsTag::of(&view));

    let (_, changed) = site.client.set_memory_if_match("web01", &minimum(128), &read).await.expect("nobody else");
    let problem = refusal(site.client.set_memory_if_match("web01", &minimum(64), &read).await);
    assert_eq!((problem.status, problem.title.as_str()), (412, "Changed meanwhile"));
    assert_eq!(
        problem.detail,
        format!(
            "The settings of web01 are not those that you read, and nothing was changed. They are now: dynamic on, \
             startup 512MiB, minimum 128MiB, maximum 1GiB, buffer 20%, weight 5000, demand model working-set, \
             autostart start-if-running, with ETag {changed}. Read web01 again, and repeat the change if you still want it"
        )
    );
    assert_eq!(site.vm("web01").await.settings.minimum_bytes, mib(128));

    // One tag stands for all of the settings, whatever is changed.
    let autostart = AutostartPatch { autostart: Some(Autostart::Nothing), start_delay: None };
    let problem = refusal(site.client.set_autostart_if_match("web01", &autostart, &read).await);
    assert_eq!(problem.status, 412);
    let (_, newest) = site.client.set_autostart_if_match("web01", &autostart, &changed).await.expect("nobody else");
    assert_eq!(refusal(site.client.set_memory_if_match("web01", &minimum(64), &changed).await).status, 412);
    site.client.set_memory_if_match("web01", &minimum(64), &newest).await.expect("nobody else");
    assert_eq!(refusal(site.client.set_memory_if_match("web02", &minimum(64), &newest).await).status, 404);
}

#[tokio::test]
async fn of_changes_for_the_same_settings_one_is_made_and_the_others_are_told() {
    let site = Site::new().await;
    site.define("web01").await;
    let (_, read) = site.client.vm_with_tag("web01").await.expect("it exists");
    let changes = (0..8).map(|number| {
        let (client, read) = (site.client.clone(), read.clone());
        tokio::spawn(async move { client.set_memory_if_match("web01", &minimum(100 + 2 * number), &read).await })
    });
    let mut done = Vec::new();
    for change in changes.collect::<Vec<_>>() {
        match change.await.expect("no panic") {
            Ok((view, _)) => done.push(view.settings.minimum_bytes),
            refused => assert_eq!(refusal(refused).status, 412),
        }
    }
    assert_eq!(done, [site.vm("web01").await.settings.minimum_bytes], "one, and it is what holds");
}

#[tokio::test]
async fn a_tag_outlives_the_daemon_and_the_life_of_the_machine() {
    let mut site = Site::new().await;
    site.define("web01").await;
    let (_, off) = site.client.vm_with_tag("web01").await.expect("it exists");
    site.client.start("web01").await.expect("there is memory");
    site.vm_until("web01", "running", |vm| vm.state == dynmem_api::VmState::Running).await;
    assert_eq!(site.client.vm_with_tag("web01").await.expect("it exists").1, off);
    site.kill_daemon().await;
    site.start_daemon().await;
    site.client.set_memory_if_match("web01", &minimum(128), &off).await.expect("they are the same");
}

#[tokio::test]
async fn the_condition_in_a_request_is_a_tag_anything_or_refused() {
    let site = Site::new().await;
    site.define("web01").await;
    let patch = async |path: &str, condition: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "PATCH /v1/vms/web01/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{condition}Content-Length: {length}\r\n\r\n{body}"
        );
        site.raw(&request).await
    };
    let (_, tag) = site.client.vm_with_tag("web01").await.expect("it exists");
    let long = format!("If-Match: \"{}\r\n", "x".repeat(10_000));
    for condition in ["If-Match: web01\r\n", "If-Match: \"a\r\n", "If-Match:\r\n", "If-Match: \"\u{e9}\"\r\n", &long] {
        let (head, body) = patch("memory", condition, "{\"minimum\":\"64M\"}").await;
        assert!(
            head.starts_with("HTTP/1.1 400") && body.contains("If-Match can't be"),
            "{condition:.40}: {head} {body}"
        );
        assert!(body.len() < 1000, "{body}");
    }
    let (head, _) = patch("memory", &format!("If-Match: W/{tag}\r\n"), "{\"minimum\":\"64M\"}").await;
    assert!(head.starts_with("HTTP/1.1 412"), "a weak tag is never the same: {head}");
    // Two lines are one list.
    let (head, _) =
        patch("memory", &format!("If-Match: \"old\"\r\nIf-Match: {tag}\r\n"), "{\"minimum\":\"64M\"}").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (head, body) = patch("autostart", "If-Match: *\r\n", "{\"start_delay\":7}").await;
    let (view, tag) = site.client.vm_with_tag("web01").await.expect("it exists");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains(&format!("etag: {tag}")), "{head} {body}");
    assert!(head.contains("cache-control: no-store"), "its figures move by themselves: {head}");
    assert_eq!((view.autostart.delay_seconds, view.settings.minimum_bytes), (7, mib(64)));
    // A condition that holds does not make a wrong change right.
    let (head, _) = patch("memory", &format!("If-Match: {tag}\r\n"), "{\"minimum\":\"8G\"}").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}
