//! How many hosts are published at once.

/// How many hosts are published at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batch {
    /// All of them.
    #[default]
    All,
    /// This many, 1 or more.
    Count(u32),
    /// This part of them in percent, 1 to 100.
    Percent(u32),
}

impl Batch {
    /// Reads `"2"`, `"50%"` or `"all"`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "all" {
            return Some(Self::All);
        }
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim_end().parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent)
            }
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count),
        }
    }

    /// The sizes of the batches for this many hosts, in order. A percentage is rounded up, so that no
    /// batch is empty and `34%` of three hosts is two of them.
    pub fn sizes(self, hosts: usize) -> Vec<usize> {
        let size = match self {
            Self::All => hosts,
            Self::Count(count) => usize::try_from(count).unwrap_or(hosts),
            Self::Percent(percent) => {
                usize::try_from(percent).map_or(hosts, |percent| hosts.saturating_mul(percent).div_ceil(100))
            }
        }
        .max(1);
        (0..hosts).step_by(size).map(|start| size.min(hosts - start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_count_or_a_percentage() {
        assert_eq!(Batch::parse("2"), Some(Batch::Count(2)));
        assert_eq!(Batch::parse(" 50 % "), Some(Batch::Percent(50)));
        assert_eq!(Batch::parse("all"), Some(Batch::All));
        for wrong in ["", "0", "0%", "101%", "-1", "half", "5.5%"] {
            assert_eq!(Batch::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn batches_cover_every_host_once() {
        assert_eq!(Batch::All.sizes(3), [3]);
        assert_eq!(Batch::Count(2).sizes(5), [2, 2, 1]);
        assert_eq!(Batch::Percent(50).sizes(3), [2, 1]);
        assert_eq!(Batch::Percent(1).sizes(3), [1, 1, 1]);
        assert_eq!(Batch::Count(9).sizes(3), [3]);
        assert_eq!(Batch::All.sizes(0), Vec::<usize>::new());
    }
}
