//! `-WhatIf`, `-Confirm` and `-Force`: a line that only asks what would be done
//! does nothing, and one that loses something asks first, unless it is told not
//! to.

use super::words::Arguments;

/// One of our own lines, in the making: the command, and its options.
pub(super) type Line = (&'static [&'static str], Vec<String>);

/// Says what becomes of `lines`: which are to be carried out, and which would be.
pub(super) struct Safe {
    pub(super) lines: Vec<Line>,
    /// Those of which there is no dry run.
    pub(super) untried: Vec<Line>,
}

/// Heeds what `arguments` say about doing it at all. An error is a sentence.
pub(super) fn safe(cmdlet: &str, arguments: &Arguments, mut lines: Vec<Line>) -> Result<Safe, String> {
    let loses = lines.iter().any(loses_something);
    if arguments.has("Confirm") && !loses {
        return Err(format!("{cmdlet} -Confirm is not understood: nobody is asked here, as nothing is lost"));
    }
    if arguments.has("Force") || arguments.denied.contains(&"Confirm") {
        for line in lines.iter_mut().filter(|line| loses_something(line)) {
            line.1.push("--yes".to_owned());
        }
    }
    if !arguments.has("WhatIf") {
        return Ok(Safe { lines, untried: Vec::new() });
    }
    let (mut lines, untried): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(can_be_tried);
    for (_, options) in &mut lines {
        options.push("--dry-run".to_owned());
    }
    Ok(Safe { lines, untried })
}

fn loses_something((command, options): &Line) -> bool {
    match command {
        ["vm", "stop"] => options.iter().any(|option| option == "--force"),
        ["vm", "delete"] => true,
        _ => false,
    }
}

fn can_be_tried((command, _): &Line) -> bool {
    matches!(command, ["vm", "start"] | ["memory", "set"])
}

/// What is told instead of carrying out a line.
pub(super) fn what_if(line: &[String]) -> String {
    let plain = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,%".contains(&byte));
    let quoted = |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    let words: Vec<_> = line.iter().map(quoted).collect();
    format!("What if: dynmem {} would be done. Nothing was", words.join(" "))
}
