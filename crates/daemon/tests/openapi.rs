//! The API's description says what the daemon does, and the copy in `docs` says
//! what the description says.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use common::Site;
use serde_json::Value;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

fn description() -> Value {
    serde_json::from_str(dynmem_daemon::openapi()).expect("JSON")
}

/// The fields of an object.
fn fields(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

/// Path, method and operation of all operations.
fn operations(description: &Value) -> Vec<(&str, &str, &Value)> {
    let of =
        |(path, methods)| fields(methods).iter().map(move |(method, it): (&String, _)| (path, method.as_str(), it));
    fields(&description["paths"]).iter().map(|(path, methods)| (path.as_str(), methods)).flat_map(of).collect()
}

/// Calls `look` with everything in a document and where it is.
fn walk(value: &Value, pointer: &str, look: &mut impl FnMut(&str, &Value)) {
    look(pointer, value);
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| walk(value, &format!("{pointer}/{name}"), look));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| walk(value, &format!("{pointer}/{index}"), look));
        }
        _ => {}
    }
}

#[test]
fn the_copy_in_docs_is_the_description() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let made = dynmem_daemon::openapi();
    if env::var_os("DYNMEM_REFRESH").is_some() {
        fs::write(&path, made).expect("written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let line = 1 + kept.lines().zip(made.lines()).take_while(|(kept, made)| kept == made).count();
    assert!(
        kept == made,
        "docs/openapi.json is out of date from line {line} on: DYNMEM_REFRESH=1 cargo test -p dynmemd --test openapi"
    );
}

#[test]
fn it_is_a_whole_document_of_openapi_3_1() {
    let description = description();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut used = BTreeSet::new();
    walk(&description, "", &mut |pointer, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').expect("within the document");
            assert!(description.pointer(target).is_some(), "{pointer}: {reference} leads nowhere");
            used.insert(reference.to_owned());
        }
    });
    let tags: Vec<_> = description["tags"].as_array().expect("tags").iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&description) {
        let id = operation["operationId"].as_str().expect("an operation's id");
        assert!(METHODS.contains(&method) && ids.insert(id), "{method} {path}: {id} is there twice");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(summary.ends_with('.') && !summary.contains('\n'), "{method} {path}: {summary:?} is no line");
        assert!(tags.contains(&&operation["tags"][0]), "{method} {path}: {}", operation["tags"]);
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        for parameter in parameters {
            assert!(
                parameter["description"].is_string() && parameter["schema"].is_object(),
                "{method} {path}: {parameter}"
            );
        }
        let in_path: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "path").collect();
        assert_eq!(in_path.len(), path.matches('{').count(), "{method} {path}");
        assert!(
            in_path.iter().all(|parameter| parameter["required"] == true && parameter["name"] == "name"),
            "{in_path:?}"
        );
        let responses = fields(&operation["responses"]);
        assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path} never succeeds");
        for (status, response) in responses {
            assert!(response["description"].is_string(), "{method} {path} {status} says nothing");
            if status.as_str() >= "400" {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
    }
    for name in fields(&description["components"]["schemas"]).keys() {
        let told_in_the_stream = name.starts_with("Live");
        assert!(told_in_the_stream || used.contains(&format!("#/components/schemas/{name}")), "nobody needs {name}");
    }
}

#[test]
fn everything_says_what_it_is_in_words_of_the_api() {
    let description = description();
    for (name, schema) in fields(&description["components"]["schemas"]) {
        assert!(schema["description"].is_string(), "{name} says nothing");
    }
    walk(&description, "", &mut |pointer, value| {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let is_kind_of_variant =
                    property.get("enum").and_then(Value::as_array).is_some_and(|one| one.len() == 1);
                let says = property["description"].is_string() || is_kind_of_variant;
                assert!(says, "{pointer}/{name} says nothing: {property}");
            }
        }
        if let (true, Some(text)) = (pointer.ends_with("/description"), value.as_str()) {
            let foreign = ["[`", "::", "crate"].into_iter().find(|foreign| text.contains(foreign));
            assert_eq!(foreign, None, "{pointer} is for readers of Rust: {text}");
        }
    });
}

#[test]
fn sizes_are_numbers_words_are_enumerated_and_requests_are_closed() {
    let description = description();
    let schemas = &description["components"]["schemas"];
    assert_eq!(schemas["Bytes"]["type"], "integer");
    assert_eq!((&schemas["Percent"]["type"], &schemas["Percent"]["format"]), (&"integer".into(), &"int64".into()));
    assert_eq!((&schemas["Weight"]["minimum"], &schemas["Weight"]["maximum"]), (&1.into(), &10_000.into()));
    assert_eq!(schemas["SizeText"]["type"], serde_json::json!(["integer", "string"]));
    let states = schemas["VmState"]["enum"].as_array().expect("words");
    assert!(schemas["VmState"]["type"] == "string" && states.len() == 9 && states.contains(&"running".into()));
    let always = |name: &str, field: &str| schemas[name]["required"].as_array().expect("names").contains(&field.into());
    assert!(always("HostView", "memory_bytes") && always("VmView", "counters") && always("VmPoint", "demand_bytes"));
    assert!(!always("HostView", "advice") && !always("VmView", "pid") && !always("Problem", "instance"));
    let of = |name: &str, field: &str| schemas[name]["properties"][field].clone();
    assert!(of("VmPoint", "demand_bytes").to_string().contains("null"), "nothing before its guest reports");
    assert!(of("VmView", "pid")["type"] == "integer" && of("VmView", "resident_bytes")["$ref"].is_string());
    for (path, method, operation) in operations(&description) {
        let Some(body) = operation.get("requestBody") else { continue };
        let (mut bodies, mut seen) = (vec![body], BTreeSet::new());
        while let Some(schema) = bodies.pop() {
            walk(schema, "", &mut |_, value| {
                let is_open = value.get("properties").is_some() && value["additionalProperties"] != false;
                assert!(!is_open, "{method} {path} takes more fields than {value}");
            });
            let mut references = Vec::new();
            walk(schema, "", &mut |_, value| {
                references.extend(value.get("$ref").and_then(Value::as_str).map(str::to_owned));
            });
            let new = references.into_iter().filter(|reference| seen.insert(reference.clone()));
            bodies.extend(new.map(|reference| description.pointer(&reference[1..]).expect("it leads there")));
        }
        assert!(!seen.is_empty(), "{method} {path}");
    }
    let limit = |path: &str, name: &str| {
        let parameters = description["paths"][path]["get"]["parameters"].as_array().expect("parameters");
        let schema = &parameters.iter().find(|it| it["name"] == name).expect("a parameter")["schema"];
        (schema["minimum"].as_u64(), schema["maximum"].as_u64())
    };
    assert_eq!(limit("/v1/events", "limit"), (Some(1), Some(dynmem_api::MAX_EVENTS.into())));
    assert_eq!(limit("/v1/host/history", "step"), (Some(1), Some(dynmem_api::MAX_HISTORY_SECONDS)));
    let interval = (Some(dynmem_api::LIVE_INTERVAL_MIN_MS.into()), Some(dynmem_api::LIVE_INTERVAL_MAX_MS.into()));
    assert_eq!(limit("/v1/live", "interval_ms"), interval);
    let wait = &schemas["StopRequest"]["properties"]["timeout_seconds"]["maximum"];
    assert_eq!(wait.as_u64(), Some(dynmem_api::MAX_STOP_TIMEOUT_SECONDS.into()));
    let delay = &schemas["AutostartPatch"]["properties"]["start_delay"]["maximum"];
    assert_eq!(delay.as_u64(), Some(dynmem_definition::START_DELAY_SECONDS_MAX.into()));
}

#[tokio::test]
async fn the_daemon_serves_it_and_takes_the_methods_that_are_in_it_and_no_others() {
    let site = Site::new().await;
    let ask = async |method: &str, path: &str| {
        let line = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        site.raw(&line).await
    };
    let (head, body) = ask("GET", "/v1/openapi.json").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, dynmem_daemon::openapi());

    let description = description();
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, method, _) in operations(&description) {
        methods.entry(path).or_default().insert(method);
    }
    for (path, described) in methods {
        // A stream without end is refused before it begins.
        let asked = path.replace("{name}", "nobody") + if path == "/v1/live" { "?interval_ms=1" } else { "" };
        for method in METHODS {
            let (head, body) = ask(&method.to_uppercase(), &asked).await;
            let status = head.get(9..12).unwrap_or_default();
            assert!(status != "404" || body.contains("No VM is named"), "{method} {path}: {head} {body}");
            assert_eq!(status != "405", described.contains(method), "{method} {path}: {head} {body}");
            if status != "405" {
                let operation = &description["paths"][path][method];
                assert!(operation["responses"].get(status).is_some(), "{method} {path}: {status} is not described");
            }
        }
    }
}
