//! The dashboard's files, by the real daemon. What is in them is tested in a
//! browser (`ui/browser`).

mod common;

use common::Site;

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n")
}

#[tokio::test]
async fn the_page_is_served_with_a_policy_that_lets_it_ask_nobody_else() {
    let mut site = Site::new().await;
    let (head, body) = site.raw(&get("/", "")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("<title>dynmem</title>"), "{head}\n{body}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-cache",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(head.contains(line), "{line} is missing: {head}");
    }
    let names: Vec<_> = body.split('"').filter_map(|word| word.strip_prefix("./assets/")).collect();
    assert!(names.len() >= 2, "{body}");
    for name in names {
        let (head, body) = site.raw(&get(&format!("/assets/{name}"), "")).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("max-age=31536000, immutable"), "{head}");
        assert!(!head.contains("content-encoding") && !body.is_empty(), "{head}");
    }
    site.stop_daemon().await;
}

#[tokio::test]
async fn beside_the_page_there_is_the_api_as_before() {
    let mut site = Site::new().await;
    let (head, body) = site.raw(&get("/v1/version", "")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("\"version\""), "{head}\n{body}");
    let (head, body) = site.raw(&get("/assets/none.js", "")).await;
    assert!(head.starts_with("HTTP/1.1 404 ") && body.contains("There is no /assets/none.js"), "{head}\n{body}");
    let (head, _) = site.raw("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    site.stop_daemon().await;
}
