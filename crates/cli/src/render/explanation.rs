//! Why VMs have what they have.

use dynmem_api::{ExplanationView, OwedView, SharerView};
use serde::Serialize;

use super::{
    Show, Style, pairs, printable,
    size::human,
    table::{Align, Cell, Column, Table},
};

/// Why one VM has what it has, in full.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Explanation<'v>(pub(crate) &'v ExplanationView);

/// Why several have, in a sentence each.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Explanations<'v>(pub(crate) &'v [ExplanationView]);

impl Show for Explanations<'_> {
    fn text(&self, _: &Style) -> String {
        if self.0.is_empty() {
            return "No VM is defined".to_owned();
        }
        let sentences: Vec<_> = self.0.iter().map(|explanation| printable(&explanation.sentence)).collect();
        sentences.join("\n")
    }
}

impl Show for Explanation<'_> {
    fn text(&self, style: &Style) -> String {
        let explanation = self.0;
        let mut blocks = vec![printable(&explanation.sentence).into_owned()];
        if explanation.why != "off" {
            blocks.push(pairs(&figures(explanation)));
        }
        blocks.push(sharers(explanation, style));
        let remedies: Vec<_> = explanation.remedies.iter().map(|remedy| ("What would help", remedy.clone())).collect();
        blocks.push(pairs(&remedies));
        blocks.retain(|block| !block.is_empty());
        blocks.join("\n\n")
    }
}

fn figures(explanation: &ExplanationView) -> Vec<(&'static str, String)> {
    let ExplanationView { assigned_bytes: assigned, promised_bytes: promised, .. } = *explanation;
    let going = if assigned == promised { String::new() } else { format!(", going to {}", human(promised)) };
    let (minimum, maximum) = (human(explanation.minimum_bytes), human(explanation.maximum_bytes));
    let wanted = format!("{}, with its buffer {}", human(explanation.demand_bytes), human(explanation.wanted_bytes));
    let shortage = explanation.shortage.as_ref().map(|shortage| {
        let (wanted, room) = (human(shortage.wanted_bytes), human(shortage.room_bytes));
        format!("{}: {wanted} wanted, {room} there", shortage.rank)
    });
    let owes = |owed: &OwedView| {
        let stuck = if owed.stuck { " (stuck)" } else { "" };
        format!("{} from {}{stuck}", human(owed.bytes), owed.name)
    };
    let mut rows = vec![
        ("Assigned", format!("{}{going}", human(assigned))),
        ("Demand", wanted),
        ("Due", human(explanation.due_bytes)),
        ("Bounds", format!("{minimum} to {maximum}, weight {}", explanation.weight)),
        ("Short of", shortage.unwrap_or_default()),
        ("Host", format!("{} free of {}", human(explanation.available_bytes), human(explanation.lendable_bytes))),
    ];
    rows.extend(explanation.owed.iter().map(|owed| ("On its way back", owes(owed))));
    rows
}

/// The others, where memory is shared by weight.
fn sharers(explanation: &ExplanationView, style: &Style) -> String {
    if explanation.shortage.is_none() || explanation.sharers.is_empty() {
        return String::new();
    }
    let column = |title, align, rank| Column { title, align, rank };
    let mut table = Table::new([
        column("SHARES WITH", Align::Left, 0),
        column("WEIGHT", Align::Right, 3),
        column("ASSIGNED", Align::Right, 1),
        column("DEMAND", Align::Right, 2),
        column("DUE", Align::Right, 0),
    ]);
    for SharerView { name, weight, assigned_bytes, demand_bytes, due_bytes } in &explanation.sharers {
        let [assigned, demand, due] = [assigned_bytes, demand_bytes, due_bytes].map(|bytes| Cell::from(human(*bytes)));
        table.row(vec![name.into(), weight.to_string().into(), assigned, demand, due]);
    }
    let more = explanation.sharers_total.saturating_sub(explanation.sharers.len() as u64);
    let rest = if more == 0 { String::new() } else { format!("\nand {more} more") };
    format!("{}{rest}", table.text(style))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn short() -> ExplanationView {
        const MIB: u64 = 1 << 20;
        serde_json::from_value(json!({
            "name": "web01", "sentence": "web01 has 512 MiB: it \u{1b}shares", "why": "shares",
            "assigned_bytes": 512 * MIB, "promised_bytes": 512 * MIB, "demand_bytes": 3000 * MIB,
            "wanted_bytes": 3600 * MIB, "target_bytes": 3600 * MIB, "due_bytes": 512 * MIB,
            "minimum_bytes": 128 * MIB, "maximum_bytes": 4096 * MIB, "weight": 1000,
            "shortage": {"rank": "need", "wanted_bytes": 6000 * MIB, "room_bytes": 2048 * MIB},
            "sharers": [{"name": "db", "weight": 3000, "assigned_bytes": 1536 * MIB,
                "demand_bytes": 3000 * MIB, "due_bytes": 1536 * MIB}],
            "sharers_total": 3, "owed": [{"name": "db", "bytes": 2 * MIB, "stuck": true}],
            "owed_bytes": 2 * MIB, "available_bytes": 0, "lendable_bytes": 2048 * MIB,
            "remedies": ["A weight above 1000 would give it a larger share"]
        }))
        .expect("a view")
    }

    #[test]
    fn an_explanation_has_its_sentence_the_figures_who_shares_and_what_would_help() {
        let text = Explanation(&short()).text(&Style::default());
        let expected = "\
web01 has 512 MiB: it \u{fffd}shares

Assigned         512 MiB
Demand           2.9 GiB, with its buffer 3.5 GiB
Due              512 MiB
Bounds           128 MiB to 4 GiB, weight 1000
Short of         need: 5.9 GiB wanted, 2 GiB there
Host             0 free of 2 GiB
On its way back  2 MiB from db (stuck)

SHARES WITH  WEIGHT  ASSIGNED   DEMAND      DUE
db             3000   1.5 GiB  2.9 GiB  1.5 GiB
and 2 more

What would help  A weight above 1000 would give it a larger share";
        assert_eq!(text, expected);
        assert_eq!(Explanations(&[short()]).text(&Style::default()), "web01 has 512 MiB: it \u{fffd}shares");
    }
}
