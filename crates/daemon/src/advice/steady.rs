//! [`Steady`]: advice that comes late and goes late.

use std::collections::BTreeMap;

use dynmem_api::AdviceView;

/// A rule must hold for so many looks before its advice appears, and not hold
/// for as many before it goes. A look is ten seconds.
const LOOKS: u32 = 60;

/// What a rule says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) advice: AdviceView,
    /// It follows from settings alone: nothing it says comes and goes.
    pub(crate) at_once: bool,
}

/// One kind of advice of one subject.
#[derive(Clone, Debug)]
struct Held {
    /// As last said.
    advice: AdviceView,
    at_once: bool,
    /// Looks in which it held, less those in which it did not.
    looks: u32,
    shown: bool,
}

/// The advice of one VM or host, made steady. There is one of each kind at
/// most, so it is bounded by the rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steady {
    held: BTreeMap<String, Held>,
}

impl Steady {
    /// Takes in what the rules say at this look; what is to be shown, the most
    /// important first.
    pub(crate) fn look(&mut self, candidates: Vec<Candidate>) -> Vec<AdviceView> {
        let mut now: BTreeMap<String, Candidate> =
            candidates.into_iter().map(|candidate| (candidate.advice.kind.clone(), candidate)).collect();
        self.held.retain(|kind, held| {
            match now.remove(kind) {
                Some(Candidate { advice, .. }) => {
                    held.advice = advice;
                    held.looks = (held.looks + 1).min(LOOKS);
                }
                None if held.at_once => held.looks = 0,
                None => held.looks -= 1,
            }
            held.shown |= held.looks == LOOKS;
            held.looks > 0
        });
        for (kind, Candidate { advice, at_once }) in now {
            let looks = if at_once { LOOKS } else { 1 };
            self.held.insert(kind, Held { advice, at_once, looks, shown: at_once });
        }
        let mut shown: Vec<AdviceView> =
            self.held.values().filter(|held| held.shown).map(|held| held.advice.clone()).collect();
        shown.sort_by_key(|advice| std::cmp::Reverse(advice.severity)); // a stable sort: by kind within
        shown
    }
}

#[cfg(test)]
mod tests {
    use dynmem_api::Severity;

    use super::*;

    fn candidate(kind: &str, at_once: bool) -> Vec<Candidate> {
        let severity = if at_once { Severity::Warning } else { Severity::Hint };
        let advice = AdviceView { kind: kind.to_owned(), severity, sentence: String::new(), remedy: String::new() };
        vec![Candidate { advice, at_once }]
    }

    #[test]
    fn advice_comes_after_ten_minutes_and_goes_after_ten() {
        let mut steady = Steady::default();
        let comes = (1..100).find(|_| !steady.look(candidate("no-swap", false)).is_empty());
        assert_eq!(comes, Some(60));
        let goes = (1..100).find(|_| steady.look(Vec::new()).is_empty());
        assert_eq!(goes, Some(60));
        assert!(steady.held.is_empty(), "nothing is left of it");
    }

    #[test]
    fn what_comes_and_goes_neither_appears_nor_vanishes() {
        let mut steady = Steady::default();
        for _ in 0..300 {
            assert!(steady.look(candidate("no-swap", false)).is_empty());
            assert!(steady.look(Vec::new()).is_empty());
        }
        (0..60).for_each(|_| _ = steady.look(candidate("no-swap", false)));
        for _ in 0..300 {
            assert_eq!(steady.look(Vec::new()).len(), 1);
            assert_eq!(steady.look(candidate("no-swap", false)).len(), 1);
        }
    }

    #[test]
    fn what_follows_from_settings_comes_and_goes_with_them_and_stands_first() {
        let mut steady = Steady::default();
        (0..60).for_each(|_| _ = steady.look(candidate("a", false)));
        let both = [candidate("a", false), candidate("z", true)].concat();
        let kinds: Vec<String> = steady.look(both).into_iter().map(|advice| advice.kind).collect();
        assert_eq!(kinds, ["z", "a"]);
        assert_eq!(steady.look(candidate("a", false)).len(), 1);
    }
}
