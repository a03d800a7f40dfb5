//! What a fit promises, tried on costs that are known, with noise, wild points and knees.

use super::super::tests::cases;
use super::*;
use proptest::prelude::*;

/// A small generator (xorshift), the same on every run.
struct Random(u64);

impl Random {
    /// From -1 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

fn cost(fixed_ns: f64, per_byte_ns: f64) -> Cost {
    Cost::new(fixed_ns, per_byte_ns).expect("a cost")
}

/// 8 B to 16 MiB, in powers of two.
fn usual_sizes() -> impl Iterator<Item = u64> + Clone {
    (3..=24).map(|bit| 1 << bit)
}

/// What measuring `model` gives, with a relative error of up to `noise`.
fn measured(model: &Model, sizes: impl Iterator<Item = u64>, noise: f64, random: &mut Random) -> Vec<Point> {
    sizes.map(|bytes| Point { bytes, ns: model.at(bytes) * (1.0 + noise * random.next()) }).collect()
}

/// The largest relative difference of two models over the usual sizes.
fn difference(one: &Model, other: &Model) -> f64 {
    usual_sizes().map(|bytes| (one.at(bytes) / other.at(bytes) - 1.0).abs()).fold(0.0, f64::max)
}

/// Lines of any balance between fixed cost and bytes.
fn lines() -> impl Strategy<Value = Cost> {
    (1.0..4.0, -3.0..0.5).prop_map(|(fixed, per_byte): (f64, f64)| cost(10_f64.powf(fixed), 10_f64.powf(per_byte)))
}

#[test]
fn points_on_a_line_give_that_line() {
    for truth in [cost(400.0, 0.05), cost(1500.0, 0.25), cost(30.0, 3.0), cost(50_000.0, 0.001)] {
        let fit = fit(&measured(&Model::line(truth), usual_sizes(), 0.0, &mut Random(1))).expect("enough points");
        assert_eq!(fit.segments, 1);
        assert!(difference(&fit.model, &Model::line(truth)) < 1e-9, "{fit} for {truth}");
        assert!(fit.residual_max < 1e-9);
    }
}

#[test]
fn short_messages_count_as_much_as_long_ones() {
    // At 16 MiB, 5 % are 42 µs: a hundred times what a short message costs. Least squares would not see the 400 ns.
    let truth = Model::line(cost(400.0, 0.05));
    for seed in 1..20 {
        let mut points = measured(&truth, usual_sizes(), 0.0, &mut Random(seed));
        let mut random = Random(seed);
        for point in points.iter_mut().filter(|point| point.bytes > 1 << 18) {
            point.ns *= 1.0 + 0.05 * random.next();
        }
        let fit = fit(&points).expect("enough points");
        assert!((fit.model.at(8) / truth.at(8) - 1.0).abs() < 0.02, "{fit}");
    }
}

#[test]
fn every_fifth_length_being_wild_does_not_move_the_line() {
    let truth = Model::line(cost(400.0, 0.05));
    for wild in [0.1, 0.5, 2.0, 30.0] {
        for first in 0..5 {
            let mut points = measured(&truth, usual_sizes(), 0.01, &mut Random(7));
            points.iter_mut().skip(first).step_by(5).for_each(|point| point.ns *= wild);
            let fit = fit(&points).expect("enough points");
            assert!(difference(&fit.model, &truth) < 0.04, "{fit} with {wild} from {first}");
            assert_eq!(fit.segments, 1, "{fit} with {wild} from {first}");
            assert!(fit.residual_median < 0.02 && fit.residual_max > 0.4, "{fit}");
        }
    }
}

#[test]
fn a_copy_that_outgrows_the_cache_has_a_knee() {
    let below = cost(400.0, 0.05);
    let truth = Model::bent(below, 1 << 19, cost(below.at(1 << 19), 0.15));
    let fit = fit(&measured(&truth, usual_sizes(), 0.01, &mut Random(3))).expect("enough points");
    assert_eq!(fit.segments, 2);
    let (knee, above) = fit.model.above().expect("two lines");
    assert!(((1 << 18)..1 << 20).contains(&knee), "{fit}");
    assert!((above.per_byte_ns() / 0.15 - 1.0).abs() < 0.05, "{fit}");
    assert!(difference(&fit.model, &truth) < 0.04, "{fit}");
    assert!(fit.residual_median < 0.01);
}

#[test]
fn a_knee_between_two_lengths_is_where_the_lines_meet() {
    let (below, knee) = (cost(400.0, 0.05), 300_000);
    let truth = Model::bent(below, knee, cost(below.at(knee), 0.15));
    let fit = fit(&measured(&truth, usual_sizes(), 0.0, &mut Random(1))).expect("enough points");
    let (found, above) = fit.model.above().expect("two lines");
    assert!(found.abs_diff(knee) < 10, "{fit}");
    assert!((above.fixed_ns() - below.at(knee)).abs() < 10.0, "{fit}");
}

#[test]
fn a_cost_that_jumps_has_a_knee_between_the_lengths_where_it_does() {
    // From 64 KiB on, another way is taken: dearer to begin with, cheaper bytes.
    let truth = Model::bent(cost(300.0, 0.2), 1 << 16, cost(40_000.0, 0.05));
    let fit = fit(&measured(&truth, usual_sizes(), 0.01, &mut Random(5))).expect("enough points");
    assert_eq!(fit.segments, 2);
    let (knee, _) = fit.model.above().expect("two lines");
    assert!(((1 << 16)..1 << 17).contains(&knee), "{fit}");
    assert!(difference(&fit.model, &truth) < 0.04, "{fit}");
}

#[test]
fn a_knee_is_found_among_wild_measurements() {
    let below = cost(400.0, 0.05);
    let truth = Model::bent(below, 1 << 16, cost(below.at(1 << 16), 0.25));
    for seed in 1..=10 {
        let mut random = Random(seed);
        let mut points: Vec<Point> = (0..31).flat_map(|_| measured(&truth, usual_sizes(), 0.02, &mut random)).collect();
        for point in &mut points {
            if random.next() > 0.6 {
                point.ns *= 10.0;
            }
        }
        let fit = fit(&points).expect("enough points");
        assert_eq!(fit.segments, 2);
        assert!(difference(&fit.model, &truth) < 0.05, "{fit}");
    }
}

#[test]
fn a_knee_is_found_though_every_fifth_length_is_wild() {
    let below = cost(400.0, 0.05);
    let truth = Model::bent(below, 1 << 14, cost(below.at(1 << 14), 0.1));
    for first in 0..5 {
        let mut points = measured(&truth, usual_sizes(), 0.01, &mut Random(9));
        points.iter_mut().skip(first).step_by(5).for_each(|point| point.ns *= 10.0);
        let fit = fit(&points).expect("enough points");
        assert_eq!(fit.segments, 2, "{fit} from {first}");
        assert!(fit.residual_median < 0.02, "{fit} from {first}");
    }
}

#[test]
fn two_lines_are_used_where_one_is_bad_and_they_are_better_though_not_good() {
    // Three levels, and every other measurement 10 % too high or too low.
    let level =
        |bit: u32| [1.0, 2.0, 4.0, 1.0][usize::from(bit >= 10) + usize::from(bit >= 17) + usize::from(bit >= 21)];
    let noise = |bit: u32| if (bit * bit / 3).is_multiple_of(2) { 1.1 } else { 0.9 };
    let point = |bit: u32| {
        let bytes = 1_u64 << bit;
        Point { bytes, ns: (400.0 + 0.05 * bytes as f64) * level(bit) * noise(bit) }
    };
    let fit = fit(&(3..=24).map(point).collect::<Vec<_>>()).expect("enough points");
    assert_eq!(fit.segments, 2);
    assert!(fit.residual_median > 0.1, "{fit}");
}

#[test]
fn a_cost_is_not_negative_where_the_points_would_have_it_so() {
    let falling: Vec<Point> =
        usual_sizes().zip(1..).map(|(bytes, turn)| Point { bytes, ns: 1000.0 / f64::from(turn) }).collect();
    let fitted = fit(&falling).expect("enough points").model;
    assert_eq!(fitted.below().per_byte_ns(), 0.0);
    let through_zero: Vec<Point> = [1000, 2000, 3000].map(|bytes| Point { bytes, ns: bytes as f64 - 500.0 }).to_vec();
    assert_eq!(fit(&through_zero).expect("enough points").model.below().fixed_ns(), 0.0);
}

#[test]
fn too_few_lengths_are_refused_with_the_numbers() {
    let point = |bytes| Point { bytes, ns: 100.0 };
    assert_eq!(fit(&[]), Err(FitError::TooFewSizes { points: 0, sizes: 0, needed: 3 }));
    let error = fit(&[point(8), point(8), point(8), point(64)]).unwrap_err();
    let expected = "4 points of 2 different lengths were given; at least 3 lengths are needed";
    assert_eq!(error.to_string(), expected);
    assert!(fit(&[point(8), point(64), point(512)]).is_ok());
}

#[test]
fn a_measurement_that_is_no_cost_is_refused_with_its_place() {
    let mut points = measured(&Model::line(cost(400.0, 0.05)), usual_sizes(), 0.0, &mut Random(1));
    for ns in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e13] {
        points[4].ns = ns;
        let error = fit(&points).expect_err("refused");
        assert!(matches!(error, FitError::Point { index: 4, bytes: 128, .. }), "{error}");
        assert!(error.to_string().contains(&ns.to_string()), "{error}");
    }
    let steep = [(0, 1.0), (1, 1e10), (2, 2e10)].map(|(bytes, ns)| Point { bytes, ns });
    assert!(matches!(fit(&steep), Err(FitError::Cost(CostError { field: "per_byte_ns", .. }))));
}

#[test]
fn noise_of_few_lengths_is_no_knee() {
    let truth = Model::line(cost(400.0, 0.05));
    for seed in 1..if cfg!(miri) { 2 } else { 300 } {
        let fit = fit(&measured(&truth, usual_sizes().step_by(2), 0.05, &mut Random(seed))).expect("enough points");
        assert_eq!(fit.segments, 1, "{fit} of seed {seed}");
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn a_fifth_of_wild_measurements_does_not_move_a_line(truth in lines(), seed in 1..u64::MAX) {
        let mut random = Random(seed);
        let truth = Model::line(truth);
        let mut points: Vec<Point> = (0..15).flat_map(|_| measured(&truth, usual_sizes(), 0.02, &mut random)).collect();
        for point in &mut points {
            if random.next() > 0.6 {
                point.ns *= if random.next() > 0.0 { 2.0 + 20.0 * random.next().abs() } else { 0.2 };
            }
        }
        let fit = fit(&points).expect("enough points");
        prop_assert_eq!(fit.segments, 1);
        prop_assert!(difference(&fit.model, &truth) < 0.04, "{fit} for {truth}");
    }

    #[test]
    fn noise_is_no_knee(truth in lines(), seed in 1..u64::MAX) {
        let points = measured(&Model::line(truth), usual_sizes(), 0.05, &mut Random(seed));
        let fit = fit(&points).expect("enough points");
        prop_assert_eq!(fit.segments, 1, "{}", fit);
        prop_assert!(difference(&fit.model, &Model::line(truth)) < 0.12, "{fit} for {truth}");
    }

    #[test]
    fn any_points_are_fitted_or_refused_whatever_their_order(
        mut points in prop::collection::vec((0..20_u64, any::<u64>(), 1e-300..1e12), 0..30),
        rotation in any::<usize>(),
    ) {
        let to_points = |points: &[(u64, u64, f64)]| -> Vec<Point> {
            points.iter().map(|&(few, many, ns)| Point { bytes: if many % 3 == 0 { many } else { few }, ns }).collect()
        };
        let one = fit(&to_points(&points));
        if let Ok(fit) = one {
            prop_assert!(fit.residual_median <= fit.residual_max && (0.0..=1.0).contains(&fit.residual_max));
            prop_assert_eq!(fit.segments == 2, fit.model.above().is_some());
        }
        let count = points.len().max(1);
        points.rotate_left(rotation % count);
        prop_assert_eq!(one, fit(&to_points(&points)));
    }
}
