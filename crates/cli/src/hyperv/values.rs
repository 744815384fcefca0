//! Values of parameters as ours, and why one is none.

use dynmem_definition::NamePattern;
use dynmem_units::{Bytes, Weight};

use super::words::{Parameter, Takes};

/// A pattern of VM names that does not mind their case, as PowerShell's.
pub(super) fn pattern(parameter: &str, text: &str) -> Result<String, String> {
    let pattern = format!("(?i){text}");
    match pattern.parse::<NamePattern>() {
        Ok(_) => Ok(pattern),
        Err(error) => Err(format!("-{parameter}: {error}")),
    }
}

/// What is said if a parameter has no value: often a shell has eaten it.
pub(super) fn missing(parameter: &Parameter) -> String {
    let name = parameter.name;
    match parameter.takes {
        Takes::Bool | Takes::Switch => format!(
            "-{name} has no value. If you wrote $true or $false, the shell has replaced it by nothing: quote it \
             ('$true'), or write true or false"
        ),
        _ => format!("-{name} needs a value"),
    }
}

/// The values as ours; none for a switch that is off.
pub(super) fn ours(parameter: &Parameter, raw: &[String]) -> Result<Option<Vec<String>>, String> {
    let name = parameter.name;
    let text = raw.first().map(|text| text.trim()).unwrap_or_default();
    let one = |text: String| Ok(Some(vec![text]));
    match parameter.takes {
        Takes::Switch if raw.is_empty() => Ok(Some(Vec::new())),
        Takes::Switch => Ok(truth(parameter, text)?.then(Vec::new)),
        Takes::Bool => one(if truth(parameter, text)? { "on" } else { "off" }.to_owned()),
        _ if raw.iter().all(|value| value.trim().is_empty()) => Err(missing(parameter)),
        Takes::Size => {
            let size: Bytes = text.parse().map_err(|error| format!("-{name}: {error}"))?;
            one(size.to_string())
        }
        Takes::Number(least, most) => {
            let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
            let rule = || format!("-{name} {text:?} is out of range: write a whole number from {least} to {most}");
            one(number.ok_or_else(rule)?.to_string())
        }
        Takes::Priority => one(weight(name, text)?.to_string()),
        Takes::Text => one(text.to_owned()),
        Takes::Choice(choices) => {
            let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let rule = || format!("-{name} {text:?} is none of {}", words.join(", "));
            one(chosen.ok_or_else(rule)?.1.to_owned())
        }
        Takes::List => {
            let list = raw.join("");
            let list = without_units(&list);
            Ok(Some(list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()))
        }
    }
}

/// Hyper-V has a counter with its unit in its name, after a comma that parts
/// nothing.
fn without_units(list: &str) -> String {
    let lower = list.to_ascii_lowercase();
    match lower.find(", mbytes").or_else(|| lower.find(",mbytes")) {
        Some(at) => {
            let rest = &list[at..];
            let end = rest.to_ascii_lowercase().find("mbytes").map_or(rest.len(), |word| word + "mbytes".len());
            format!("{}{}", &list[..at], without_units(&rest[end..]))
        }
        None => list.to_owned(),
    }
}

fn truth(parameter: &Parameter, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "$true" | "true" | "1" | "on" => Ok(true),
        "$false" | "false" | "0" | "off" => Ok(false),
        "" => Err(missing(parameter)),
        _ => Err(format!("-{} {text:?} is neither $true nor $false", parameter.name)),
    }
}

/// A weight. Hyper-V's scale ends at 100 and ours at 10000: what both could mean
/// is not guessed at.
fn weight(name: &str, text: &str) -> Result<Weight, String> {
    let number: u64 = text.parse().map_err(|_| format!("-{name} {text:?} is not a whole number"))?;
    if number <= 100 {
        let scaled = (number * 100).max(1);
        return Err(format!(
            "-{name} {number} can be read in two ways. On Hyper-V's scale, 0 to 100, it is weight {scaled} here: \
             write -{name} {scaled}. As a weight from 1 to 10000 it would be {number}, where 5000 is usual: write \
             dynmem memory set NAME --weight {}",
            number.max(1)
        ));
    }
    Weight::new(number).map_err(|error| format!("-{name}: {error}"))
}
