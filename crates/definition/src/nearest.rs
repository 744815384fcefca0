//! [`nearest`]: what a misspelt word was probably meant to be.

/// The one of `names` that `name` was probably meant to be, whatever the case; none
/// if it is like none of them.
///
/// ```
/// # use dynmem_definition::nearest;
/// assert_eq!(nearest("wbe01", ["db", "web01"].into_iter()), Some("web01"));
/// assert_eq!(nearest("mail", ["db", "web01"].into_iter()), None);
/// ```
pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let tolerance = name.len() / 3 + 1;
    names
        .map(|candidate| (distance(&name.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be inserted, deleted or replaced to get from one
/// text to the other (Levenshtein's distance), row by row. Names are ASCII.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        for (from, to, letters) in [("", "", 0), ("", "abc", 3), ("web01", "wbe01", 2), ("kitten", "sitting", 3)] {
            assert_eq!(distance(from, to), letters, "{from} {to}");
            assert_eq!(distance(to, from), letters, "{to} {from}");
        }
    }
}
