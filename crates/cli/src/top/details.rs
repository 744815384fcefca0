//! One VM: its figures, why it has them, what is wrong, what happened.

use dynmem_api::{ExplanationView, VmView};
use ratatui::{style::Color, text::Line};

use super::{
    bars,
    model::Top,
    screen::{Ink, status},
};
use crate::render::{human, printable};

/// The lines below the host's; what does not fit is left out by the caller.
pub(super) fn lines(top: &Top, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let Some(vm) = top.vm() else { return Vec::new() };
    let (status, status_ink) = status(vm, ink);
    let mut lines = vec![
        Line::styled(format!("{}  {}", printable(&vm.name), vm.state), ink.bold(Color::Reset)),
        Line::styled(status.into_owned(), status_ink),
    ];
    lines.extend(figures(vm).into_iter().map(Line::from));
    if let Some(trail) = top.trails.get(&vm.name) {
        lines.push(Line::styled(
            format!("Demand    {}", bars::curve(trail.iter(), width.saturating_sub(10))),
            ink.of(Color::Cyan),
        ));
    }
    lines.extend(top.explanation.iter().flat_map(|explanation| why(explanation, width)));
    for trouble in &vm.troubles {
        let sentence = format!("! {} for {} s: {}", trouble.kind, trouble.since_seconds, trouble.detail);
        lines.extend(wrapped(&sentence, width).into_iter().map(|line| Line::styled(line, ink.bold(Color::Magenta))));
    }
    lines.push(Line::default());
    let of_it = top.events.iter().rev().filter(|event| event.vm.as_deref() == Some(&vm.name));
    lines.extend(
        of_it.flat_map(|event| wrapped(&event.message, width)).map(|line| Line::styled(line, ink.of(Color::DarkGray))),
    );
    lines
}

fn figures(vm: &VmView) -> Vec<String> {
    let settings = &vm.settings;
    let mut lines = vec![format!(
        "Assigned  {:<12} Demand   {:<12} Target  {}",
        human(vm.assigned_bytes),
        human(vm.demand_bytes),
        human(vm.target_bytes)
    )];
    let (startup, maximum) = (human(settings.startup_bytes), human(settings.maximum_bytes));
    lines.push(if settings.dynamic {
        let minimum = human(settings.minimum_bytes);
        format!("Minimum   {minimum:<12} Startup  {startup:<12} Maximum {maximum}")
    } else {
        format!("Static    {startup}")
    });
    let pressure = vm.pressure_percent.map_or_else(|| "–".to_owned(), |pressure| pressure.to_string());
    let (buffer, weight) = (settings.buffer_percent.to_string(), settings.weight);
    lines.push(format!("Pressure  {pressure:<12} Buffer   {buffer:<12} Weight  {weight}"));
    lines
}

fn why(explanation: &ExplanationView, width: usize) -> Vec<Line<'static>> {
    let remedies = explanation.remedies.iter().map(|remedy| format!("- {remedy}"));
    let sentences = std::iter::once(explanation.sentence.clone()).chain(remedies);
    let lines = sentences.flat_map(|sentence| wrapped(&sentence, width)).map(Line::from);
    std::iter::once(Line::default()).chain(lines).collect()
}

/// A sentence in lines of at most so many characters, broken between words
/// where there are any.
fn wrapped(sentence: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in printable(sentence).split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let taken = line.chars().count();
        if taken > 0 && taken + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        } else if taken > 0 {
            line.push(' ');
        }
        while word.len() > width.max(1) {
            let rest = word.split_off(width.max(1));
            lines.push(word.into_iter().collect());
            word = rest;
        }
        line.extend(word);
    }
    lines.extend((!line.is_empty()).then_some(line));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_broken_between_words_and_words_only_if_they_must() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a incomprehensible b", 6), ["a", "incomp", "rehens", "ible b"]);
        assert_eq!(wrapped("", 10), [""; 0]);
        assert_eq!(wrapped("ab", 0), ["a", "b"]);
    }
}
