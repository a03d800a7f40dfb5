//! What the router promises, tried against the definitions: every choice is made again by comparing costs one by one.
//!
//! Not judged here: whether costs are true.
//!
//! Exact costs are small multiples of powers of two, so that `f64` computes them without rounding and comparisons with a
//! definition can be strict. Others are any numbers that can be costs; they are compared to rounding.

use super::*;
use proptest::prelude::*;

/// Relative error that a sum of two products is allowed.
const ROUNDING: f64 = 1e-9;

pub(super) fn cost(fixed_ns: f64, per_byte_ns: f64) -> Cost {
    Cost::new(fixed_ns, per_byte_ns).expect("a cost")
}

/// Costs that are exact at lengths below 2^30, also when they are multiplied by 33/32.
pub(super) fn exact_cost() -> impl Strategy<Value = Cost> {
    // Few different numbers give many ties.
    (prop_oneof![0..4_u32, 0..1_u32 << 16], prop_oneof![0..4_u32, 0..1024_u32])
        .prop_map(|(fixed, per_byte)| cost(f64::from(fixed), f64::from(per_byte) / 64.0))
}

/// Every order of magnitude that a cost can have, and the ends.
pub(super) fn any_cost() -> impl Strategy<Value = Cost> {
    fn magnitudes(most: i32) -> impl Strategy<Value = f64> {
        let spread = (1.0..10.0, -320..most).prop_map(|(digits, exponent): (f64, i32)| digits * 10_f64.powi(exponent));
        prop_oneof![1 => Just(0.0), 1 => Just(10_f64.powi(most)), 4 => spread.boxed(), 8 => (1.0..1e6).prop_map(|n| n * 1e-3)]
    }
    (magnitudes(12), magnitudes(6)).prop_map(|(fixed, per_byte)| cost(fixed, per_byte))
}

fn length() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift)
}

/// Lengths at which exact costs are exact.
fn exact_length() -> impl Strategy<Value = u64> {
    (0..1_u64 << 30, 0..30_u32).prop_map(|(bits, shift)| bits >> shift)
}

fn model(cost: impl Strategy<Value = Cost> + Clone) -> impl Strategy<Value = Model> {
    let bent = (cost.clone(), length(), cost.clone()).prop_map(|(below, knee, above)| Model::bent(below, knee, above));
    prop_oneof![cost.prop_map(Model::line), bent]
}

/// A table with at least one lane.
fn table(
    model: impl Strategy<Value = Model> + Clone,
    limit: impl Strategy<Value = u64> + Clone,
) -> impl Strategy<Value = Costs> {
    let lane = prop::option::weighted(0.8, (model, limit));
    [lane.clone(), lane.clone(), lane.clone(), lane].prop_filter_map("no lane", |lanes| {
        let mut costs = Costs::new();
        for (lane, (model, limit)) in Lane::ALL.into_iter().zip(lanes).filter_map(|(lane, entry)| Some((lane, entry?)))
        {
            costs = costs.with(lane, model, limit);
        }
        costs.largest().map(|_| costs)
    })
}

fn limit() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![Just(u64::MAX).boxed(), length().boxed()]
}

fn exact_table() -> impl Strategy<Value = Costs> {
    table(model(exact_cost().boxed()).boxed(), limit().boxed())
}

fn any_table() -> impl Strategy<Value = Costs> {
    table(model(any_cost().boxed()).boxed(), limit().boxed())
}

fn any_override() -> impl Strategy<Value = Override> {
    prop_oneof![
        2 => Just(Override::Auto),
        1 => prop::sample::select(Lane::ALL.to_vec()).prop_map(Override::Lane),
        1 => length().prop_map(Override::Threshold),
    ]
}

/// Lengths near which a choice may change: the ends of bands and ranges, and their neighbours.
fn edges(router: &Router) -> Vec<u64> {
    let mut edges: Vec<u64> = router.bands().flat_map(|band| [band.from, band.upto]).collect();
    edges.extend(router.costs().bands().map(|band| band.upto));
    edges.push(router.stay_upto());
    edges.extend(router.return_upto());
    edges.into_iter().flat_map(|edge| [edge.saturating_sub(1), edge, edge.saturating_add(1)]).collect()
}

/// The choice by definition: the lane used last, if it is dearer than none by more than the bias, or else the cheapest.
fn by_definition(costs: &Costs, bias: f64, last: Option<Lane>, len: u64) -> Option<Lane> {
    let mut best: Option<Lane> = None;
    for lane in Lane::ALL {
        if let Some(cost) = costs.at(lane, len)
            && best.is_none_or(|best| cost < costs.at(best, len).expect("taken"))
        {
            best = Some(lane);
        }
    }
    let least = costs.at(best?, len)?;
    last.filter(|&last| costs.at(last, len).is_some_and(|cost| cost <= (1.0 + bias) * least)).or(best)
}

/// Inline and arena of a usual machine; they cross at 10000 bytes.
fn usual() -> Costs {
    Costs::new()
        .with(Lane::Inline, Model::line(cost(100.0, 0.125)), 64 << 10)
        .with(Lane::Arena, Model::line(cost(725.0, 0.0625)), 64 << 20)
        .with(Lane::File, Model::line(cost(20_000.0, 0.5)), u64::MAX)
}

pub(super) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 4 } else { count }, failure_persistence: None, ..Default::default() }
}

#[test]
fn lanes_are_shown_by_name_in_their_order() {
    assert_eq!(Lane::ALL.map(|lane| lane.to_string()), ["kernel", "inline", "arena", "fd"]);
    assert!(Lane::ALL.is_sorted());
    assert_eq!(format!("[{:<8}]", Lane::Arena), "[arena   ]");
}

#[test]
fn the_choice_is_explained_in_one_sentence() {
    let mut router = Router::new(usual()).expect("lanes");
    assert_eq!(router.to_string(), "inline up to 10000 B, then arena up to 67108864 B, then fd");
    router.set_override(Override::Threshold(500)).expect("any threshold");
    assert_eq!(router.to_string(), "inline up to 500 B, then arena up to 67108864 B, then fd");
    router.set_override(Override::Lane(Lane::Arena)).expect("in the table");
    assert_eq!(router.to_string(), "arena up to 67108864 B");
    router.set_override(Override::Lane(Lane::File)).expect("in the table");
    assert_eq!(router.to_string(), "fd");
}

#[test]
fn a_lane_that_bends_can_have_two_bands() {
    // The arena is the better one from 1000 bytes to the knee of its cost, and again where inline ends.
    let arena = Model::bent(cost(600.0, 0.5), 5000, cost(10_000.0, 1.0));
    let costs = Costs::new().with(Lane::Inline, Model::line(cost(100.0, 1.0)), 8000).with(Lane::Arena, arena, 1 << 20);
    let expected = "inline up to 1000 B, then arena up to 5000 B, then inline up to 8000 B, then arena up to 1048576 B";
    assert_eq!(costs.to_string(), expected);
}

#[test]
fn sizes_that_alternate_around_the_crossover_do_not_change_the_lane() {
    for (start, lane) in [(64, Lane::Inline), (1 << 20, Lane::Arena)] {
        let mut router = Router::new(usual()).expect("lanes");
        assert_eq!(router.route(start), Ok(lane));
        for _ in 0..100 {
            assert_eq!(router.route(9_900), Ok(lane));
            assert_eq!(router.route(10_100), Ok(lane));
        }
    }
}

#[test]
fn without_a_bias_they_do() {
    let mut router = Router::new(usual()).and_then(|router| router.with_bias(0.0)).expect("in range");
    for _ in 0..100 {
        assert_eq!(router.route(9_999), Ok(Lane::Inline));
        assert_eq!(router.route(10_001), Ok(Lane::Arena));
    }
}

#[test]
fn costs_measured_again_do_not_change_the_lane_while_they_differ_by_less_than_the_bias() {
    let mut router = Router::new(usual()).expect("lanes");
    assert_eq!(router.route(10_500), Ok(Lane::Arena));
    for percent in [101, 99, 102, 98, 100].repeat(10) {
        let arena = Model::line(cost(7.25 * f64::from(percent), 0.000_625 * f64::from(percent)));
        router.set_costs(usual().with(Lane::Arena, arena, 64 << 20)).expect("lanes");
        assert_eq!(router.route(10_000), Ok(Lane::Arena), "{percent} %");
    }
    let arena = Model::line(cost(7250.0, 0.625));
    router.set_costs(usual().with(Lane::Arena, arena, 64 << 20)).expect("lanes");
    assert_eq!(router.route(10_000), Ok(Lane::Inline), "ten times dearer");
}

#[test]
fn a_lane_that_new_costs_do_not_have_is_left() {
    let mut router = Router::new(usual()).expect("lanes");
    assert_eq!(router.route(1 << 20), Ok(Lane::Arena));
    router.set_costs(usual().without(Lane::Arena)).expect("lanes");
    assert_eq!(router.route(1 << 20), Ok(Lane::File));
}

#[test]
fn a_setting_that_cannot_work_is_refused_and_changes_nothing() {
    assert_eq!(Router::new(Costs::new()).unwrap_err(), RouterError::NoLane);
    let mut router = Router::new(usual()).expect("lanes");
    assert_eq!(
        router.set_override(Override::Lane(Lane::Kernel)).unwrap_err(),
        RouterError::MissingLane { lane: Lane::Kernel }
    );
    assert_eq!(router.overridden(), Override::Auto);
    router.set_override(Override::Lane(Lane::Arena)).expect("in the table");
    assert_eq!(
        router.set_costs(usual().without(Lane::Arena)).unwrap_err(),
        RouterError::MissingLane { lane: Lane::Arena }
    );
    assert_eq!(router.set_costs(Costs::new()).unwrap_err(), RouterError::NoLane);
    assert_eq!(*router.costs(), usual());
    for bias in [f64::NAN, f64::INFINITY, -0.001, 1.001] {
        let error = Router::new(usual()).and_then(|router| router.with_bias(bias)).expect_err("refused");
        assert_eq!(error.to_string(), format!("bias is {bias}; 0 to 1 are allowed"));
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_with_its_length_and_the_limit() {
    let mut router = Router::new(usual().without(Lane::File)).expect("lanes");
    let error = router.route(70 << 20).unwrap_err();
    assert_eq!(error, RouteError { len: 70 << 20, limit: 64 << 20, lane: None });
    router.set_override(Override::Lane(Lane::Inline)).expect("in the table");
    assert_eq!(
        router.route((64 << 10) + 1).unwrap_err().to_string(),
        "a message of 65537 bytes was given; the lane that was fixed (inline) takes 0 to 65536 bytes"
    );
    assert_eq!(router.route(64 << 10), Ok(Lane::Inline));
}

#[test]
fn a_threshold_falls_back_to_the_lanes_that_there_are() {
    let line = Model::line(cost(1.0, 1.0));
    let lane_at = |costs: Costs, len| {
        let mut router = Router::new(costs).and_then(|router| router.with_override(Override::Threshold(1000)))?;
        Ok::<_, RouterError>(router.route(len).ok())
    };
    let hybrid = Costs::new().with(Lane::Kernel, line, 500).with(Lane::Arena, line, 5000).with(Lane::File, line, 9000);
    assert_eq!(lane_at(hybrid, 500), Ok(Some(Lane::Kernel)));
    assert_eq!(lane_at(hybrid, 501), Ok(Some(Lane::Arena)), "too long for the queue");
    assert_eq!(lane_at(hybrid, 5001), Ok(Some(Lane::File)), "too long for the arena");
    assert_eq!(lane_at(hybrid, 9001), Ok(None));
    assert_eq!(lane_at(hybrid.with(Lane::Inline, line, 400), 400), Ok(Some(Lane::Inline)));
    assert_eq!(lane_at(hybrid.with(Lane::Inline, line, 400), 401), Ok(Some(Lane::Kernel)));
    assert_eq!(lane_at(Costs::new().with(Lane::Kernel, line, 5000), 5000), Ok(Some(Lane::Kernel)), "there is no other");
}

#[test]
fn an_override_that_ends_gives_the_choice_back_to_the_costs() {
    let mut router =
        Router::new(usual()).and_then(|router| router.with_override(Override::Lane(Lane::File))).expect("valid");
    assert_eq!((router.route(64), router.upto()), (Ok(Lane::File), Some(u64::MAX)));
    router.set_override(Override::Auto).expect("always valid");
    assert_eq!(router.route(64), Ok(Lane::Inline));
}

#[test]
fn lines_that_are_equal_to_rounding_make_no_more_bands_than_others() {
    // The difference of both is lost in the fixed cost up to a length of 2^40 and more.
    let [inline, arena] = [1e-9, 0.999_999_999e-9].map(|per_byte_ns| Model::line(cost(1e12, per_byte_ns)));
    let costs = Costs::new().with(Lane::Inline, inline, u64::MAX).with(Lane::Arena, arena, u64::MAX);
    let mut bands = costs.bands();
    let parts = (0..100).take_while(|_| bands.part().is_some()).count();
    assert!(parts <= Lane::COUNT, "{parts} parts");
}

#[test]
fn no_length_returns_to_the_first_lane_for_certain_while_another_costs_the_same() {
    let same = Model::line(cost(100.0, 0.5));
    let costs = Costs::new().with(Lane::Inline, same, 4096).with(Lane::Arena, same, u64::MAX);
    let router = Router::new(costs).and_then(|router| router.with_bias(0.0)).expect("valid");
    assert_eq!((router.first(), router.stay_upto(), router.return_upto()), (Lane::Inline, 4096, None));
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn the_choice_is_the_one_by_definition_whatever_came_before(
        costs in exact_table(), bias in prop::sample::select(vec![0.0, 1.0 / 32.0, 1.0]),
        lens in prop::collection::vec(exact_length(), 1..40), order in any::<u64>(),
    ) {
        let mut router = Router::new(costs).and_then(|router| router.with_bias(bias)).expect("valid");
        let mut last = None;
        let near = edges(&router);
        for (turn, len) in lens.into_iter().enumerate() {
            let near = near[(order.rotate_left(7 * turn as u32) % near.len() as u64) as usize];
            for len in [len, near] {
                if len >= 1 << 30 {
                    continue;
                }
                let expected = by_definition(&costs, bias, last, len);
                prop_assert_eq!(router.route(len).ok(), expected, "at {} after {:?}", len, last);
                last = expected.or(last);
            }
        }
    }

    #[test]
    fn the_choice_is_never_dearer_than_the_best_by_more_than_the_bias(
        tables in prop::collection::vec(any_table(), 1..4), bias in 0.0..=1.0,
        lens in prop::collection::vec(length(), 1..40), order in any::<u64>(),
    ) {
        let mut router = Router::new(tables[0]).and_then(|router| router.with_bias(bias)).expect("valid");
        for costs in tables {
            router.set_costs(costs).expect("lanes");
            let near = edges(&router);
            for (turn, len) in lens.iter().enumerate() {
                let near = near[(order.rotate_left(7 * turn as u32) % near.len() as u64) as usize];
                for len in [*len, near] {
                    let best = costs.best(len).and_then(|best| costs.at(best, len));
                    match (router.route(len), best) {
                        (Ok(lane), Some(best)) => {
                            let chosen = costs.at(lane, len).expect("a lane that takes the length");
                            prop_assert!(chosen <= (1.0 + bias) * best * (1.0 + ROUNDING), "{chosen} {best} at {len}");
                        }
                        (Err(error), None) => {
                            let limit = costs.largest().expect("lanes");
                            prop_assert!(error.len == len && error.limit == limit && limit < len);
                        }
                        other => prop_assert!(false, "{other:?} at {len}"),
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_bias_the_choice_is_exactly_the_best(
        costs in exact_table(), lens in prop::collection::vec(exact_length(), 1..40),
    ) {
        let mut router = Router::new(costs).and_then(|router| router.with_bias(0.0)).expect("valid");
        for len in lens {
            let least = Lane::ALL.into_iter().filter_map(|lane| costs.at(lane, len)).fold(f64::INFINITY, f64::min);
            match router.route(len) {
                Ok(lane) => prop_assert_eq!(costs.at(lane, len), Some(least)),
                Err(_) => prop_assert_eq!(least, f64::INFINITY),
            }
        }
    }

    #[test]
    fn with_lines_and_without_limits_longer_messages_never_go_to_a_lane_with_dearer_bytes(
        costs in table(exact_cost().prop_map(Model::line).boxed(), Just(u64::MAX)),
        mut lens in prop::collection::vec(exact_length(), 2..40),
    ) {
        let mut router = Router::new(costs).and_then(|router| router.with_bias(0.0)).expect("valid");
        lens.sort_unstable();
        let mut least = f64::INFINITY;
        for len in lens {
            let lane = router.route(len).expect("no limits");
            let per_byte = costs.model(lane).expect("in the table").per_byte_at(len);
            prop_assert!(per_byte <= least, "{lane} at {len}");
            least = per_byte;
        }
    }

    #[test]
    fn bands_are_the_best_lanes_without_gap_or_overlap(costs in exact_table(), lens in prop::collection::vec(exact_length(), 1..20)) {
        let bands: Vec<Band> = costs.bands().collect();
        for len in lens.into_iter().chain(bands.iter().flat_map(|band| [band.from, band.upto])).filter(|len| *len < 1 << 30) {
            let of: Vec<Lane> = bands.iter().filter(|band| band.from <= len && len <= band.upto).map(|band| band.lane).collect();
            let best = costs.best(len);
            prop_assert_eq!(of.len(), usize::from(best.is_some()));
            prop_assert_eq!(of.first().map(|lane| costs.at(*lane, len)), best.map(|best| costs.at(best, len)));
        }
    }

    #[test]
    fn bands_are_few_and_without_a_gap_for_any_costs_and_overrides(costs in any_table(), over in any_override()) {
        let Ok(router) = Router::new(costs).and_then(|router| router.with_override(over)) else { return Ok(()) };
        let bands: Vec<Band> = router.bands().take(100).collect();
        prop_assert!(bands.len() <= 36, "four lanes, nine pieces");
        let mut next = Some(0);
        for band in &bands {
            prop_assert_eq!(Some(band.from), next);
            next = band.upto.checked_add(1);
        }
        let limit = if let Override::Lane(lane) = over { costs.limit(lane) } else { costs.largest() };
        prop_assert_eq!(next.map_or(u64::MAX, |next| next - 1), limit.expect("in the table"));
        prop_assert!(bands.windows(2).all(|pair| pair[0].lane != pair[1].lane));
    }

    #[test]
    fn an_override_is_obeyed(
        costs in any_table(), over in any_override(), lens in prop::collection::vec(length(), 1..40), turn in any::<u64>(),
    ) {
        let Ok(mut router) = Router::new(costs).and_then(|router| router.with_override(over)) else {
            let Override::Lane(lane) = over else { return Err(TestCaseError::fail("only a lane can be missing")) };
            prop_assert_eq!(costs.limit(lane), None);
            return Ok(());
        };
        let near = edges(&router);
        for len in lens.into_iter().chain([near[(turn % near.len() as u64) as usize]]) {
            let takes = |lane: Lane| costs.limit(lane).is_some_and(|limit| len <= limit);
            let answer = router.route(len).ok();
            match over {
                Override::Auto => {}
                Override::Lane(lane) => prop_assert_eq!(answer, takes(lane).then_some(lane)),
                Override::Threshold(bytes) => {
                    let (queue, shared) = ([Lane::Inline, Lane::Kernel], [Lane::Arena, Lane::File]);
                    let order = if len <= bytes { [queue, shared] } else { [shared, queue] };
                    prop_assert_eq!(answer, order.into_iter().flatten().find(|lane| takes(*lane)));
                }
            }
        }
    }

    #[test]
    fn messages_up_to_the_bounds_of_the_first_lane_go_to_it_and_no_bound_could_be_larger(
        costs in exact_table(), bias in prop::sample::select(vec![0.0, 1.0 / 32.0]), lens in prop::collection::vec(exact_length(), 1..20),
    ) {
        let router = Router::new(costs).and_then(|router| router.with_bias(bias)).expect("valid");
        let (first, stay, back) = (router.first(), router.stay_upto(), router.return_upto());
        prop_assert_eq!(router.upto(), back);
        prop_assert!(back.is_none_or(|back| back <= stay));
        let from = |last: Lane, len| by_definition(&costs, bias, Some(last), len);
        for len in lens.into_iter().chain([stay]).chain(back).filter(|len| *len < 1 << 30) {
            if len <= stay {
                let mut router = router.clone();
                prop_assert_eq!(router.route(0), Ok(first));
                prop_assert_eq!(router.upto(), Some(stay));
                prop_assert_eq!(router.route(len), Ok(first));
                prop_assert_eq!(from(first, len), Some(first));
            }
            if back.is_some_and(|back| len <= back) {
                prop_assert!(Lane::ALL.into_iter().all(|last| from(last, len) == Some(first)), "back at {len}");
            }
        }
        if stay < (1 << 30) - 1 {
            prop_assert_ne!(from(first, stay + 1), Some(first));
        }
        let beyond = back.map_or(0, |back| back.saturating_add(1));
        if beyond < 1 << 30 {
            prop_assert!(Lane::ALL.into_iter().any(|last| from(last, beyond) != Some(first)), "back to {beyond}");
        }
    }

    #[test]
    fn no_input_panics(
        numbers in prop::collection::vec(any::<f64>(), 16), bounds in prop::collection::vec(any::<u64>(), 8),
        bias in any::<f64>(), over in any_override(), lens in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let mut costs = Costs::new();
        for ((lane, numbers), bounds) in Lane::ALL.into_iter().zip(numbers.chunks(4)).zip(bounds.chunks(2)) {
            // Most floating-point numbers are no costs; their logarithm mostly is.
            let numbers: Vec<f64> = numbers.iter().map(|number| if number.is_finite() { number.abs().ln().abs() } else { *number }).collect();
            if let (Ok(below), Ok(above)) = (Cost::new(numbers[0], numbers[1]), Cost::new(numbers[2], numbers[3])) {
                let _ = crossover(below, above, bounds[0]);
                costs = costs.with(lane, Model::bent(below, bounds[0], above), bounds[1]);
            }
        }
        let Ok(router) = Router::new(costs) else { return Ok(()) };
        let _ = router.clone().with_bias(bias);
        if let Ok(mut router) = router.with_override(over) {
            for len in lens.into_iter().chain([0, u64::MAX]) {
                let _ = router.route(len);
            }
            let _ = router.to_string();
        }
    }
}
