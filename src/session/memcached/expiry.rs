//! memcached's times of expiry.

/// The longest time that counts from now: 30 days. A larger number is Unix time (`protocol.txt`).
const MAX_RELATIVE_S: u64 = 60 * 60 * 24 * 30;

/// The time of expiry that `exptime` means, Unix time in milliseconds, 0 for never. Returns
/// `None` if it has passed already.
pub(super) fn expires_ms(exptime: i64, now_ms: u64) -> Option<u64> {
    let seconds = u64::try_from(exptime).ok()?;
    match seconds {
        0 => Some(0),
        1..=MAX_RELATIVE_S => Some(now_ms.saturating_add(seconds * 1000)),
        _ => Some(seconds.saturating_mul(1000)).filter(|&at_ms| at_ms > now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::expires_ms;

    #[test]
    fn a_time_is_never_or_relative_or_absolute_or_past() {
        let now_ms = 1_700_000_000_500;
        let cases = [
            (0, Some(0)),
            (1, Some(now_ms + 1000)),
            (2_592_000, Some(now_ms + 2_592_000_000)),
            (2_592_001, None),
            (1_700_000_000, None),
            (1_700_000_001, Some(1_700_000_001_000)),
            (i64::MAX, Some(u64::MAX)),
            (-1, None),
            (i64::MIN, None),
        ];
        for (exptime, expected) in cases {
            assert_eq!(expires_ms(exptime, now_ms), expected, "{exptime}");
        }
    }
}
