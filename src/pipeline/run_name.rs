//! Names of runs.

use std::hash::{BuildHasher, RandomState};

/// Makes the name of a run: the time, and six letters and digits that make it unique. Two stand
/// for the part of the second, so that names sort by time. Four are random: programs in
/// containers may have the same process number, and a machine without a clock the same time.
pub(super) fn run_name() -> String {
    let now = jiff::Timestamp::now();
    // The system seeds the hasher's keys at random.
    name_at(now, RandomState::new().hash_one((std::process::id(), now.as_nanosecond())))
}

fn name_at(now: jiff::Timestamp, chance: u64) -> String {
    const DIGITS: [char; 36] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h',
        'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
    ];
    let digit = |number: u64| DIGITS[(number % 36) as usize];
    // A letter first: what begins with a digit could be a number, and would be sorted as one.
    let part = u64::from(now.subsec_millisecond().unsigned_abs()) / 2;
    let time = [digit(10 + part / 36), digit(part)];
    let chance = (0..4).map(|place| digit(chance >> (16 * place)));
    let unique: String = time.into_iter().chain(chance).collect();
    format!("{}-{unique}", now.strftime("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_the_order_of_time() {
        let at =
            |millisecond: i64| jiff::Timestamp::from_millisecond(1_741_918_530_000 + millisecond);
        let names: Vec<String> =
            (0..2000).step_by(2).map(|ms| name_at(at(ms).unwrap(), 7)).collect();
        assert!(names.is_sorted_by(|early, late| early < late), "{names:?}");
        assert!(names.iter().all(|name| name.len() == 23), "{names:?}");
        let chances: std::collections::BTreeSet<String> =
            (0..1000).map(|_| name_at(at(0).unwrap(), RandomState::new().hash_one(0))).collect();
        // Two of a thousand may be equal now and then.
        assert!(chances.len() > 990, "{}", chances.len());
    }
}
