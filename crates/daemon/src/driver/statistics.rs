//! Balloon statistics: what stands in for an agent that is absent or silent, is
//! compared with what an agent says, and shows that the balloon has a driver.

use std::time::Duration;

use dynmem_core::{DriverWord, GuestReport};
use dynmem_hypervisor::{Machine, MachineError};
use tokio::time::Instant;

/// An agent that said nothing for this long is silent. Its heartbeat is 2 s.
const AGENT_SILENT_AFTER: Duration = Duration::from_secs(5);
/// How often the guest refreshes its statistics: while they are needed, and
/// while they are not.
const NEEDED_SECONDS: u32 = 2;
const SPARE_SECONDS: u32 = 10;
/// Statistics older than this tell nothing about now.
const STALE: Duration = Duration::from_secs(6);
/// A balloon driver that has spoken is given so long for its agent to follow:
/// the first report decides that a guest is up.
const AGENT_GRACE: Duration = Duration::from_secs(5);

/// A driver that has not answered for this long, while its guest ran, is not
/// there: it is asked, and looked at, every ten seconds at least.
const DRIVER_PATIENCE: Duration = Duration::from_secs(25);

/// What to do about statistics, and when.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    /// The refresh that the guest was asked for.
    every: Option<u32>,
    read_at: Option<Instant>,
    /// When the guest's driver first refreshed them.
    first_at: Option<Instant>,
    /// When the last one that was told was refreshed.
    told: Option<Instant>,
    /// When the guest was reset last.
    reset_at: Option<Instant>,
    driver: Driver,
}

/// What is known about the balloon's driver.
#[derive(Debug, Default)]
struct Driver {
    /// Since when it could have answered; none while its guest stands still.
    asked_since: Option<Instant>,
    answered: bool,
    stands_still: bool,
    word: Option<DriverWord>,
    told: Option<DriverWord>,
}

impl Driver {
    /// It last answered `age` ago, if it ever did since its guest began.
    fn looked(&mut self, now: Instant, age: Option<Duration>) {
        self.answered |= age.is_some();
        if self.stands_still {
            return;
        }
        let asked_for = now.duration_since(*self.asked_since.get_or_insert(now));
        let word = match age {
            Some(age) if age < DRIVER_PATIENCE => DriverWord::Answers,
            _ if asked_for < DRIVER_PATIENCE => return, // it may yet
            _ if self.answered => DriverWord::Gone,
            _ => DriverWord::Mute,
        };
        self.word = Some(word);
    }
}

impl Statistics {
    /// When they should be read, if they are needed: an agent that last spoke
    /// at `agent_at` makes them needless.
    pub(super) fn due(&self, now: Instant, agent_at: Option<Instant>) -> bool {
        let agent_speaks = agent_at.is_some_and(|at| now.duration_since(at) < AGENT_SILENT_AFTER);
        let every = Duration::from_secs(u64::from(if agent_speaks { SPARE_SECONDS } else { NEEDED_SECONDS }));
        self.read_at.is_none_or(|at| now.duration_since(at) >= every)
    }

    /// What is known about the balloon's driver, if that is news.
    pub(super) fn driver_word(&mut self) -> Option<DriverWord> {
        let news = self.driver.word.filter(|word| self.driver.told != Some(*word))?;
        self.driver.told = Some(news);
        Some(news)
    }

    /// The guest stands still and answers nobody, or goes on.
    pub(super) fn stands_still(&mut self, still: bool) {
        if std::mem::replace(&mut self.driver.stands_still, still) != still {
            self.driver.asked_since = None;
        }
    }

    /// Reads them; a report if they are news. What an agent says comes first,
    /// and is compared with this.
    pub(super) async fn read(
        &mut self,
        machine: &mut Machine,
        agent_at: Option<Instant>,
    ) -> Result<Option<GuestReport>, MachineError> {
        let now = Instant::now();
        self.read_at = Some(now);
        let agent_speaks = agent_at.is_some_and(|at| now.duration_since(at) < AGENT_SILENT_AFTER);
        let every = if agent_speaks { SPARE_SECONDS } else { NEEDED_SECONDS };
        if self.every != Some(every) {
            machine.ask_statistics_every(every).await?;
            self.every = Some(every);
        }
        let statistics = machine.statistics().await?;
        let refreshed = |age: &Duration| now.checked_sub(*age);
        let of_this_boot =
            |age: &Duration| refreshed(age).is_some_and(|at| self.reset_at.is_none_or(|reset| at > reset));
        self.driver.looked(now, statistics.as_ref().map(|statistics| statistics.age).filter(of_this_boot));
        let Some(statistics) = statistics else { return Ok(None) };
        Ok(self.is_news(now, statistics.age, agent_at).then_some(statistics.report))
    }

    /// The guest was reset: its drivers and its agent have to come back, and
    /// what was measured before counts no more.
    pub(super) fn reset(&mut self, now: Instant) {
        *self = Self { read_at: self.read_at, reset_at: Some(now), told: Some(now), ..Self::default() };
    }

    fn is_news(&mut self, now: Instant, age: Duration, agent_at: Option<Instant>) -> bool {
        let Some(refreshed) = now.checked_sub(age).filter(|_| age < STALE) else { return false };
        if self.reset_at.is_some_and(|at| refreshed <= at) {
            return false;
        }
        let had_agent = agent_at.is_some() && agent_at > self.reset_at;
        let first = *self.first_at.get_or_insert(now);
        if !had_agent && now.duration_since(first) < AGENT_GRACE {
            return false;
        }
        // The age is of whole seconds: less than one apart is the same.
        let same = self.told.is_some_and(|told| refreshed.duration_since(told) < Duration::from_secs(1));
        if !same {
            self.told = Some(refreshed);
        }
        !same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn statistics_wait_for_the_agent_and_then_stand_in() {
        let mut statistics = Statistics::default();
        let start = Instant::now() + seconds(100);
        let told: Vec<u64> = (0..20_u64)
            .filter(|second| statistics.is_news(start + seconds(*second), seconds(second % 2), None))
            .collect();
        assert_eq!(told, [5, 6, 8, 10, 12, 14, 16, 18], "each refresh once, after the grace");
    }

    #[tokio::test]
    async fn statistics_that_are_not_refreshed_are_not_told() {
        let mut statistics = Statistics::default();
        let start = Instant::now() + seconds(100);
        assert!(statistics.is_news(start, seconds(0), Some(start)));
        assert!((1..60).all(|second| !statistics.is_news(start + seconds(second), seconds(second), Some(start))));
    }

    #[tokio::test]
    async fn a_reset_makes_old_statistics_worthless() {
        let mut statistics = Statistics::default();
        let start = Instant::now() + seconds(100);
        assert!(statistics.is_news(start, seconds(0), Some(start)));
        statistics.reset(start + seconds(1));
        assert!(!statistics.is_news(start + seconds(2), seconds(1), Some(start)), "measured before the reset");
        assert!(!statistics.is_news(start + seconds(4), seconds(0), Some(start)), "the agent may yet come back");
        assert!(statistics.is_news(start + seconds(9), seconds(0), Some(start)));
    }

    /// What a driver is said to be that was asked at these seconds, and had
    /// answered so many seconds before.
    fn words(statistics: &mut Statistics, start: Instant, looks: &[(u64, Option<u64>)]) -> Vec<(u64, DriverWord)> {
        let word = |(at, age): &(u64, Option<u64>)| {
            statistics.driver.looked(start + seconds(*at), age.map(seconds));
            statistics.driver_word().map(|word| (*at, word))
        };
        looks.iter().filter_map(word).collect()
    }

    #[tokio::test]
    async fn a_driver_is_there_gone_or_was_never_heard_of_and_only_news_is_told() {
        let start = Instant::now() + seconds(100);
        let comes_and_goes = [(0, None), (10, Some(3)), (20, Some(13)), (30, Some(23)), (40, Some(33)), (50, Some(1))];
        let told = [(10, DriverWord::Answers), (40, DriverWord::Gone), (50, DriverWord::Answers)];
        assert_eq!(words(&mut Statistics::default(), start, &comes_and_goes), told);
        let never = [(0, None), (10, None), (20, None), (30, None), (40, None)];
        assert_eq!(words(&mut Statistics::default(), start, &never), [(30, DriverWord::Mute)]);
    }

    #[tokio::test]
    async fn a_guest_that_stood_still_has_its_time_to_answer() {
        let (start, mut statistics) = (Instant::now() + seconds(100), Statistics::default());
        words(&mut statistics, start, &[(0, Some(0))]);
        statistics.stands_still(true);
        assert_eq!(words(&mut statistics, start, &[(50, Some(50)), (100, Some(100))]), []);
        statistics.stands_still(false);
        assert_eq!(words(&mut statistics, start, &[(101, Some(101)), (111, Some(2))]), [], "it has answered again");
        assert_eq!(words(&mut statistics, start, &[(141, Some(32))]), [(141, DriverWord::Gone)]);
    }

    #[tokio::test]
    async fn an_agent_that_speaks_makes_them_rare() {
        let now = Instant::now() + seconds(100);
        let statistics = Statistics { read_at: Some(now), ..Statistics::default() };
        let later = now + seconds(3);
        assert!(statistics.due(later, None));
        assert!(!statistics.due(later, Some(later)));
        assert!(statistics.due(now + seconds(11), Some(now + seconds(10))));
    }
}
