//! Pools of local addresses.

use super::*;
use crate::model::LocalRange;

fn ranges(texts: &[&str]) -> Vec<LocalRange> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn refused(state: &mut State, request: Request) -> String {
    let before = state.to_text();
    let refusal = try_apply(state, request).unwrap_err().to_string();
    assert_eq!(state.to_text(), before, "{refusal}");
    refusal
}

#[test]
fn pools_change_whole_or_not_at_all() {
    let mut state = with_service();
    let add = |texts: &[&str]| Request::AddLocal(None, ranges(texts));
    let delete = |texts: &[&str]| Request::DeleteLocal(None, ranges(texts));
    try_apply(&mut state, add(&["10.0.0.8/30", "fd00::1"])).unwrap();
    for (request, part) in [
        (
            add(&["10.0.0.1", "10.0.0.9"]),
            "10.0.0.8/30 is in this pool",
        ),
        (add(&["10.0.0.1", "10.0.0.1"]), "10.0.0.1 is in this pool"),
        (add(&["10.4.0.0/22"]), "at most 1024 addresses"),
        (delete(&["fd00::1", "10.0.0.8"]), "10.0.0.8 is not in this"),
        (
            Request::AddLocal(Some(id(80)), ranges(&["fd00::1"])),
            "fd00::1 is not of the service's family",
        ),
        (
            Request::AddLocal(
                None,
                vec![LocalRange {
                    ports: Some((5, 4)),
                    ..ranges(&["10.0.0.1"])[0]
                }],
            ),
            "no ports 5-4",
        ),
    ] {
        let text = refused(&mut state, request);
        assert!(text.starts_with("lvx: ") && text.contains(part), "{text}");
    }
    try_apply(&mut state, delete(&["10.0.0.8/30", "fd00::1"])).unwrap();
    assert_eq!(state.pools().count(), 0);
}

#[test]
fn pools_survive_the_text_and_the_service() {
    let mut state = with_service();
    let own = Request::AddLocal(Some(id(80)), ranges(&["10.0.0.1"]));
    try_apply(&mut state, own).unwrap();
    let director = Request::AddLocal(None, ranges(&["10.0.0.2", "fd00::2"]));
    try_apply(&mut state, director).unwrap();
    assert_eq!(state.pool_of(&id(80)), Some(Some(id(80))));
    assert_eq!(state.pool_of(&id(81)), Some(None));
    try_apply(&mut state, Request::Clear).unwrap();
    let read = State::from_text(&state.to_text(), LIMITS).unwrap();
    assert_eq!(read.pool_list(), state.pool_list());
    assert_eq!(read.pool_of(&id(80)), Some(Some(id(80))));
    let targets: Vec<IpAddr> = read.targets().collect();
    for addr in ["10.0.0.1", "10.0.0.2", "fd00::2"] {
        assert!(targets.contains(&addr.parse().unwrap()), "{addr}");
    }
    // Text of before there were pools.
    let text = state.to_text();
    let (old, _) = text.split_once(",\n\"locals\":").unwrap();
    let old = State::from_text(&format!("{old}}}"), LIMITS).unwrap();
    assert_eq!(old.pools().count(), 0);
}
