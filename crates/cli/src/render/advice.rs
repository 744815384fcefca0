//! Advice, a block each.

use dynmem_api::{AdviceView, VmView};
use serde::Serialize;

use super::{Show, Style, printable};

/// Who is advised, and what.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Advice<'a>(Vec<One<'a>>);

#[derive(Serialize)]
struct One<'a> {
    /// None for the host.
    vm: Option<&'a str>,
    #[serde(flatten)]
    advice: &'a AdviceView,
}

impl<'a> Advice<'a> {
    pub(crate) fn new(host: &'a [AdviceView], vms: &'a [VmView]) -> Self {
        let of_host = host.iter().map(|advice| One { vm: None, advice });
        let of_vms = vms.iter().flat_map(|vm| vm.advice.iter().map(|advice| One { vm: Some(&vm.name), advice }));
        Self(of_host.chain(of_vms).collect())
    }
}

impl Show for Advice<'_> {
    fn text(&self, _: &Style) -> String {
        if self.0.is_empty() {
            return "There is nothing to advise".to_owned();
        }
        let block = |one: &One<'_>| {
            let who = printable(one.vm.unwrap_or("host")).into_owned();
            format!(
                "{who}: {} ({})\n  {}",
                printable(&one.advice.sentence),
                one.advice.severity.as_str(),
                printable(&one.advice.remedy)
            )
        };
        self.0.iter().map(block).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use dynmem_api::Severity;

    use super::*;
    use crate::render::samples;

    #[test]
    fn advice_is_two_lines_and_none_is_one() {
        assert_eq!(Advice::new(&[], &[samples::running()]).text(&Style::default()), "There is nothing to advise");
        let advice = AdviceView {
            kind: "no-swap".to_owned(),
            severity: Severity::Warning,
            sentence: "Its guest has no swap".to_owned(),
            remedy: "Give it one".to_owned(),
        };
        let host = [AdviceView { severity: Severity::Hint, ..advice.clone() }];
        let vms = [VmView { advice: vec![advice], ..samples::running() }];
        assert_eq!(
            Advice::new(&host, &vms).text(&Style::default()),
            "host: Its guest has no swap (hint)\n  Give it one\nweb01: Its guest has no swap (warning)\n  Give it one"
        );
        let json = serde_json::to_value(Advice::new(&host, &vms)).expect("plain data");
        assert_eq!(
            (&json[0]["vm"], &json[1]["vm"], &json[1]["kind"]),
            (&serde_json::Value::Null, &"web01".into(), &"no-swap".into())
        );
    }
}
