//! What a daemon answers, and what its client sends, is what the API's
//! description says.

mod common;

use common::{Site, definition, mib};
use dynmem_api::{AutostartPatch, Live, LiveQuery, MemoryPatch, StopRequest};
use serde_json::{Map, Value};

/// A schema's document, and how a value differs from it.
struct Description(Value);

impl Description {
    fn new() -> Self {
        Self(serde_json::from_str(dynmem_daemon::openapi()).expect("JSON"))
    }

    fn named(&self, name: &str) -> &Value {
        self.0.pointer(&format!("/components/schemas/{name}")).unwrap_or_else(|| panic!("no schema {name}"))
    }

    /// Whether `value` is as `schema` says. Stricter than JSON Schema: a field
    /// must be described, and a word in a schema that is not known here is a
    /// fault of this test.
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let schema = schema.as_object().ok_or_else(|| format!("{at}: {schema} is no schema"))?;
        schema.iter().try_for_each(|(keyword, rule)| {
            let fits = match keyword.as_str() {
                "description" | "summary" | "default" | "format" => true,
                "$ref" => {
                    let target = rule.as_str().and_then(|reference| self.0.pointer(reference.strip_prefix('#')?));
                    return self.check(target.unwrap_or(&Value::Null), value, at);
                }
                "oneOf" => return self.check_forms(rule, value, at),
                "items" => {
                    let mut items = value.as_array().into_iter().flatten().enumerate();
                    return items.try_for_each(|(index, item)| self.check(rule, item, &format!("{at}/{index}")));
                }
                "properties" => return self.check_fields(schema, value, at),
                "propertyNames" => {
                    let mut names = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str().into());
                    return names.try_for_each(|name| self.check(rule, &name, at));
                }
                "additionalProperties" if rule.is_object() => {
                    let mut fields = value.as_object().into_iter().flatten();
                    return fields.try_for_each(|(name, field)| self.check(rule, field, &format!("{at}/{name}")));
                }
                "additionalProperties" => *rule == false, // see check_fields
                "required" => {
                    let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
                    names.into_iter().all(|name| value.get(name).is_some())
                }
                "type" => types(rule).any(|wanted| is_of(wanted, value)),
                "enum" => rule.as_array().is_some_and(|words| words.contains(value)),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap_or(f64::NAN)),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap_or(f64::NAN)),
                _ => return Err(format!("{at}: {keyword} is not known to this test")),
            };
            if fits { Ok(()) } else { Err(format!("{at}: {value} breaks {keyword} {rule}")) }
        })
    }

    fn check_forms(&self, forms: &Value, value: &Value, at: &str) -> Result<(), String> {
        let outcomes: Vec<_> = forms.as_array().into_iter().flatten().map(|form| self.check(form, value, at)).collect();
        match outcomes.iter().filter(|outcome| outcome.is_ok()).count() {
            1 => Ok(()),
            fitting => Err(format!("{at}: {fitting} forms fit: {outcomes:?}")),
        }
    }

    fn check_fields(&self, schema: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        value.as_object().into_iter().flatten().try_for_each(|(name, field)| match schema["properties"].get(name) {
            Some(described) => self.check(described, field, &format!("{at}/{name}")),
            None => Err(format!("{at}: {name} is not described")),
        })
    }

    fn assert(&self, name: &str, value: &Value) {
        self.check(self.named(name), value, name).unwrap_or_else(|difference| panic!("{difference}\nin {value:#}"));
    }

    /// The schema of an answer's body, by its status and content type.
    fn answer(&self, method: &str, path: &str, status: &str, content_type: &str) -> &Value {
        let responses = &self.0["paths"][path][method.to_lowercase()]["responses"];
        let schema = &responses[status]["content"][content_type]["schema"];
        assert!(schema.is_object(), "{method} {path} gives {status} {content_type}, which is not described");
        schema
    }
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_str().into_iter().chain(rule.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn is_of(wanted: &str, value: &Value) -> bool {
    match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Asks, and compares the answer with its description; gives it back.
async fn ask(site: &Site, described: &Description, line: (&str, &str, &str), body: &str, status: &str) -> String {
    let (method, path, name_and_query) = line;
    let (name, query) = name_and_query.split_once('?').unwrap_or((name_and_query, ""));
    let target = format!("{}?{query}", path.replace("{name}", name));
    let length = body.len();
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    let (head, answer) = site.raw(&request).await;
    assert_eq!(head.get(9..12), Some(status), "{method} {target}: {head} {answer}");
    let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    let schema = described.answer(method, path, status, essence);
    let value = if essence.ends_with("json") {
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    } else {
        Value::String(answer.clone())
    };
    let outcome = described.check(schema, &value, &format!("{method} {target}"));
    outcome.unwrap_or_else(|difference| panic!("{difference}\nin {value:#}"));
    answer
}

#[tokio::test]
async fn answers_of_all_resources_are_as_described() {
    let (site, described) = (Site::new().await, Description::new());
    site.run("web01").await;
    site.define("db01").await;
    site.client.enable_meter("web01").await.expect("it can be metered");
    site.vm_until("web01", "is metered", |vm| vm.meter.as_ref().is_some_and(|it| it.average_bytes.is_some())).await;
    site.event("started").await;
    common::until("a point of history", || async {
        let told = site.client.vm_history("web01", &dynmem_api::HistoryQuery::default()).await;
        let told = told.map_err(|error| error.to_string())?;
        if told.points.is_empty() || told.events.is_empty() { Err(format!("{told:?}")) } else { Ok(()) }
    })
    .await;
    let new = serde_json::to_string(&definition("new")).expect("plain data");
    let vm = "/v1/vms/{name}";
    for (method, path, name_and_query, body, status) in [
        ("GET", "/v1/version", "", "", "200"),
        ("GET", "/v1/openapi.json", "", "", "200"),
        ("GET", "/v1/host", "", "", "200"),
        ("GET", "/v1/host/history", "", "", "200"),
        ("GET", "/v1/host/history", "?format=csv", "", "200"),
        ("GET", "/v1/events", "?limit=1000", "", "200"),
        ("GET", "/v1/counters", "", "", "200"),
        ("GET", "/metrics", "", "", "200"),
        ("GET", "/v1/vms", "", "", "200"),
        ("GET", vm, "web01", "", "200"),
        ("GET", vm, "db01", "", "200"),
        ("GET", "/v1/vms/{name}/explanation", "web01", "", "200"),
        ("GET", "/v1/vms/{name}/history", "web01", "", "200"),
        ("GET", "/v1/vms/{name}/meter", "web01", "", "200"),
        ("POST", "/v1/vms", "?dry_run=true", &new, "200"),
        ("POST", "/v1/vms", "", &new, "201"),
        ("POST", "/v1/vms/{name}/start", "db01?dry_run=true", "", "200"),
        ("PATCH", "/v1/vms/{name}/memory", "web01?dry_run=true", "{\"maximum\":\"1536MB\"}", "200"),
        ("PATCH", "/v1/vms/{name}/memory", "web01", "{\"weight\":6000}", "200"),
        ("PATCH", "/v1/vms/{name}/autostart", "web01", "{\"start_delay\":5}", "200"),
        ("POST", "/v1/vms/{name}/pause", "web01", "", "200"),
        ("POST", "/v1/vms/{name}/resume", "web01", "", "200"),
        ("GET", vm, "nobody", "", "404"),
        ("GET", vm, "web01?verbose=1", "", "400"),
        ("POST", "/v1/vms", "", &new, "409"),
        ("POST", "/v1/vms/{name}/stop", "db01", "", "409"),
    ] {
        ask(&site, &described, (method, path, name_and_query), body, status).await;
    }
}

#[tokio::test]
async fn what_is_told_live_is_as_described() {
    let (site, described) = (Site::new().await, Description::new());
    let mut stream = site.client.live(LiveQuery { interval_ms: Some(100) }).await.expect("a stream");
    site.run("web01").await;
    let (mut snapshots, mut changes, mut events) = (0, 0, 0);
    while snapshots == 0 || changes == 0 || events == 0 {
        match stream.next().await.expect("it goes on").expect("it goes on") {
            Live::Snapshot(snapshot) => {
                described.assert("LiveSnapshot", &serde_json::to_value(snapshot).expect("plain data"));
                snapshots += 1;
            }
            Live::Change(change) => {
                described.assert("LiveChange", &serde_json::to_value(change).expect("plain data"));
                changes += 1;
            }
            Live::Event(event) => {
                described.assert("EventView", &serde_json::to_value(event).expect("plain data"));
                events += 1;
            }
        }
    }
}

#[test]
fn what_the_client_sends_is_as_described_and_what_is_refused_is_not() {
    let described = Description::new();
    described.assert("VmDefinition", &serde_json::to_value(definition("web01")).expect("plain data"));
    described.assert("StopRequest", &serde_json::to_value(StopRequest::default()).expect("plain data"));
    described.assert("AutostartPatch", &serde_json::to_value(AutostartPatch::default()).expect("plain data"));
    let patch = MemoryPatch { minimum: Some(mib(64)), dynamic: Some(true), ..MemoryPatch::default() };
    described.assert("MemoryPatch", &serde_json::to_value(patch).expect("plain data"));
    described.assert("MemoryPatch", &serde_json::json!({"minimum": "64MB", "weight": 10_000}));
    for (name, refused) in [
        ("MemoryPatch", serde_json::json!({"minimun": "64MB"})),
        ("MemoryPatch", serde_json::json!({"weight": 0})),
        ("MemoryPatch", serde_json::json!({"minimum": -1})),
        ("MemoryPatch", serde_json::json!({"demand_model": "guess"})),
        ("StopRequest", serde_json::json!({"mode": "gently"})),
        ("StopRequest", serde_json::json!({"timeout_seconds": 3601})),
        ("VmDefinition", serde_json::json!({"vcpus": 1})),
        ("VmDefinition", serde_json::json!({"name": "a", "network": [{"mode": "tap"}]})),
    ] {
        let outcome = described.check(described.named(name), &refused, name);
        assert!(outcome.is_err(), "{refused} is no {name}");
    }
}
