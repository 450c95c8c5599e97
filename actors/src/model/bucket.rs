//! The buckets of histograms of times: their bounds grow by the same factor, so a value is known to 2 %, whatever its size
//! (DDSketch: Masson, Rim, Lee, 2019). `hist_bucket` of `schema.sql` is the same.

/// What is not longer belongs to the first bucket, in microseconds.
const FIRST_US: f64 = 100.0;

/// The logarithm of the factor from bound to bound: a value in the middle of a bucket, as ratios go, is off by tanh(0.02).
const STEP: f64 = 0.04;

/// The bucket of a time in microseconds: 0 up to 100 µs, and from there on one for each step of 4 %. An hour has 435.
pub fn bucket(us: u64) -> i16 {
    let steps = ((us as f64 / FIRST_US).ln() / STEP).ceil();
    // The cast cuts at the bounds of the type; of 0 µs the logarithm is minus infinity.
    steps.max(0.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_at_100_us_and_each_holds_4_percent() {
        assert_eq!([0, 1, 100, 101, 104, 105].map(bucket), [0, 0, 0, 1, 1, 2]);
        assert_eq!(bucket(3_600_000_000), 435);
        assert_eq!(bucket(u64::MAX), 994);
        for us in (100..20_000_000).step_by(9_999) {
            let upper = FIRST_US * (STEP * f64::from(bucket(us))).exp();
            let ratio = upper / us as f64;
            assert!((1.0 - 1e-9..1.041).contains(&ratio), "{us}: {ratio}");
        }
    }
}
