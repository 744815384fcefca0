//! What a cmdlet takes, for who asks with `-?`.

use super::words::{Becomes, Cmdlet, Parameter, Takes};

pub(super) fn text(cmdlet: &Cmdlet) -> String {
    let parameters: Vec<_> = cmdlet.parameters.iter().filter(|it| !matches!(it.becomes, Becomes::Refused(_))).collect();
    let lines: Vec<_> = parameters.into_iter().map(line).collect();
    let ours: Vec<_> = cmdlet.commands.iter().map(|words| format!("dynmem {}", words.join(" "))).collect();
    format!(
        "{}: here it is `{}`\n\n{}\n\nExample:\n  dynmem {}\n\n{}",
        cmdlet.name,
        ours.join("`, and `"),
        lines.join("\n"),
        cmdlet.example,
        "Also --output FORM, --json, --socket PATH, --url URL and --ca FILE. docs/from-hyper-v.md tells what differs."
    )
}

fn line(parameter: &Parameter) -> String {
    let Parameter { name, aliases, takes, is_positional, .. } = parameter;
    let value = match takes {
        Takes::Switch => String::new(),
        Takes::Bool => " $true|$false".to_owned(),
        Takes::Size => " SIZE".to_owned(),
        Takes::Number(least, most) => format!(" {least}-{most}"),
        Takes::Priority => " 101-10000".to_owned(),
        Takes::Text => " TEXT".to_owned(),
        Takes::Choice(choices) => {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            format!(" {}", words.join("|"))
        }
        Takes::List => " A,B,...".to_owned(),
    };
    let name = if *is_positional { format!("[-{name}]") } else { format!("-{name}") };
    let also: Vec<_> = aliases.iter().map(|alias| format!("-{alias}")).collect();
    let also = if also.is_empty() { String::new() } else { format!("  (also {})", also.join(", ")) };
    format!("  {name}{value}{also}")
}
