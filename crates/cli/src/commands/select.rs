//! From names and patterns to the VMs they mean.

use anyhow::bail;
use dynmem_api::{Client, ClientError, VmView};
use dynmem_definition::{NamePattern, nearest};

/// The VMs that `names` mean, in the order of the names and each once; all of
/// them for no names. If one of the names means nothing, it is an error and
/// nothing is selected: a slip of the finger should not do half of the work.
pub(super) fn select(mut vms: Vec<VmView>, names: &[NamePattern]) -> anyhow::Result<Vec<VmView>> {
    vms.sort_by(|a, b| a.name.cmp(&b.name));
    if names.is_empty() {
        return Ok(vms);
    }
    let mut selected = Vec::new();
    let mut unknown = Vec::new();
    for pattern in names {
        let mut matched = false;
        for (index, _) in vms.iter().enumerate().filter(|(_, vm)| pattern.matches(&vm.name)) {
            matched = true;
            if !selected.contains(&index) {
                selected.push(index);
            }
        }
        if !matched {
            unknown.push(nothing_matches(pattern, &vms));
        }
    }
    if !unknown.is_empty() {
        bail!(unknown.join("\n"));
    }
    let mut vms: Vec<Option<VmView>> = vms.into_iter().map(Some).collect();
    Ok(selected.into_iter().filter_map(|index| vms[index].take()).collect())
}

/// The VM with this name.
pub(super) fn one(vms: Vec<VmView>, name: &str) -> anyhow::Result<VmView> {
    let unknown = unknown(name, &vms);
    vms.into_iter().find(|vm| vm.name == name).ok_or_else(|| anyhow::anyhow!(unknown))
}

/// The answer about a VM of this name; if there is none, which one may be meant.
pub(super) async fn known<T>(client: &Client, name: &str, answer: Result<T, ClientError>) -> anyhow::Result<T> {
    match answer {
        Err(ClientError::Refused(problem)) if problem.status == 404 => {
            one(client.vms().await?, name)?;
            Err(ClientError::Refused(problem).into())
        }
        answer => Ok(answer?),
    }
}

fn nothing_matches(pattern: &NamePattern, vms: &[VmView]) -> String {
    if pattern.is_plain() { unknown(pattern.as_str(), vms) } else { format!("No VM matches {:?}", pattern.as_str()) }
}

fn unknown(name: &str, vms: &[VmView]) -> String {
    let nearest = nearest(name, vms.iter().map(|vm| vm.name.as_str()));
    let hint = match (nearest, vms) {
        (Some(nearest), _) => format!(": did you mean {nearest:?}?"),
        (None, []) => ": no VM is defined yet".to_owned(),
        (None, _) => ": `dynmem vm list` shows all".to_owned(),
    };
    format!("No VM is named {name:?}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vms() -> Vec<VmView> {
        ["web02", "Dev-b", "web01", "Dev-a", "db"]
            .iter()
            .map(|name| {
                serde_json::from_value(serde_json::json!({
                    "name": name, "state": "off", "assigned_bytes": 0, "demand_bytes": 0, "target_bytes": 0,
                    "vcpus": 1, "integration": "none", "driver": {"state": "ok"},
                    "settings": {"dynamic": false, "startup_bytes": 0, "minimum_bytes": 0, "maximum_bytes": 0,
                        "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
                }))
                .expect("a view")
            })
            .collect()
    }

    fn selected(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<_> = names.iter().map(|name| name.parse().expect("a pattern")).collect();
        select(vms(), &names).map(|vms| vms.into_iter().map(|vm| vm.name).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_vm_is_selected_once_in_the_order_asked() {
        let names = |list: &[&str]| Ok(list.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(selected(&["web*", "Dev-a", "web01"]), names(&["web01", "web02", "Dev-a"]));
        assert_eq!(selected(&["db", "*"]), names(&["db", "Dev-a", "Dev-b", "web01", "web02"]));
        assert_eq!(selected(&[]), names(&["Dev-a", "Dev-b", "db", "web01", "web02"]));
    }

    #[test]
    fn a_name_that_means_nothing_selects_nothing() {
        assert_eq!(selected(&["web01", "dev-*"]), Err("No VM matches \"dev-*\"".into()));
        assert_eq!(selected(&["wbe01"]), Err("No VM is named \"wbe01\": did you mean \"web01\"?".into()));
        assert_eq!(selected(&["dev-a"]), Err("No VM is named \"dev-a\": did you mean \"Dev-a\"?".into()));
        assert_eq!(
            selected(&["mail", "x?", "db"]),
            Err("No VM is named \"mail\": `dynmem vm list` shows all\nNo VM matches \"x?\"".into())
        );
        let error = one(Vec::new(), "db").expect_err("there is none").to_string();
        assert_eq!(error, "No VM is named \"db\": no VM is defined yet");
    }
}
