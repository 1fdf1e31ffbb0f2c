use std::io;

use tokio::io::AsyncWriteExt as _;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_out(place: &Place) -> bool {
    place.put_out.is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn one_source_keeps_nobody_else_out() {
    let room = Room::new("test", 12, 8);
    let mut hostile = Vec::new();
    for _ in 0..8 {
        hostile.push(room.try_enter(ip("192.0.2.1")).unwrap());
    }
    assert!(room.try_enter(ip("192.0.2.1")).is_none(), "its own places are young");
    let others: Vec<_> = ["192.0.2.2", "192.0.2.3", "192.0.2.2"]
        .map(ip)
        .map(|ip| room.try_enter(ip).unwrap())
        .into();
    let out: Vec<_> = hostile.iter().map(is_out).collect();
    assert_eq!(out, [true, true, true, false, false, false, false, false], "the oldest go first");
    assert!(others.iter().all(|place| !is_out(place)));
}

#[tokio::test(start_paused = true)]
async fn a_source_makes_room_for_itself_once_its_oldest_has_had_its_time() {
    let room = Room::of_strangers("test", 2);
    let first = room.try_enter(ip("192.0.2.1")).unwrap();
    let second = room.try_enter(ip("192.0.2.1")).unwrap();
    assert!(room.try_enter(ip("192.0.2.1")).is_none());
    tokio::time::advance(GRACE).await;
    let third = room.try_enter(ip("192.0.2.1")).unwrap();
    assert_eq!([&first, &second, &third].map(is_out), [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn in_a_queue_nobody_gives_way_to_its_own_source() {
    let room = Room::queue("test", 2);
    let [first, second] = [0, 1].map(|_| room.try_enter(ip("192.0.2.1")).unwrap());
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert!(room.try_enter(ip("192.0.2.1")).is_none());
    let other = room.try_enter(ip("192.0.2.2")).unwrap();
    assert_eq!([&first, &second, &other].map(is_out), [true, false, false]);
    second.prove();
    assert!(room.try_enter(ip("192.0.2.1")).is_some(), "whoever is served waits no longer");
}

#[tokio::test(start_paused = true)]
async fn many_sources_share_evenly() {
    let room = Room::of_strangers("test", 100);
    let mut places = Vec::new();
    for source in 0..10u8 {
        for _ in 0..1_000 {
            places.extend(room.try_enter(ip(&format!("192.0.2.{source}"))));
        }
    }
    let mut shares = HashMap::<_, usize>::new();
    for place in places.iter().filter(|place| !is_out(place)) {
        *shares.entry(place.source()).or_default() += 1;
    }
    assert_eq!(shares.values().sum::<usize>(), 100);
    assert!(shares.values().all(|share| (9..=11).contains(share)), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_room_is_never_the_strangers() {
    let room = Room::new("test", 4, 2);
    let guests = [0, 1].map(|_| room.try_enter(ip("192.0.2.1")).unwrap());
    guests.iter().for_each(Place::prove);
    let strangers = [2, 3].map(|n| room.try_enter(ip(&format!("192.0.2.{n}"))).unwrap());
    assert!(room.try_enter(ip("192.0.2.4")).is_none(), "four places, but two for strangers");
    strangers[0].prove();
    assert!(room.try_enter(ip("192.0.2.4")).is_none(), "all four are taken");
    drop(guests);
    assert!(room.try_enter(ip("192.0.2.4")).is_some());
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_guests_alone_waits() {
    let room = Room::new("test", 1, 1);
    let guest = room.try_enter(ip("192.0.2.1")).unwrap();
    guest.prove();
    let (waiter, ()) = tokio::join!(room.enter(ip("192.0.2.2")), async {
        tokio::task::yield_now().await;
        drop(guest);
    });
    assert!(waiter.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_not_put_out_and_a_stranger_is_at_its_deadline() {
    let room = Room::of_strangers("test", 2);
    let within = Duration::from_secs(5);
    let (guest, stranger) =
        (room.try_enter(ip("192.0.2.1")).unwrap(), room.try_enter(ip("192.0.2.1")).unwrap());
    guest.prove();
    let work = || tokio::time::sleep(Duration::from_secs(60));
    let (stays, goes) = tokio::join!(guest.hold(within, work()), stranger.hold(within, work()));
    assert_eq!((stays, goes), (Some(()), None));
}

#[tokio::test(start_paused = true)]
async fn places_are_given_back_whatever_became_of_them() {
    let (room, large) = (Room::new("test", 8, 4), Room::of_strangers("large", 1));
    for n in 0..100u8 {
        let place = room.try_enter(ip(&format!("192.0.2.{n}"))).unwrap();
        let also = place.also_in(&large);
        if n % 3 == 0 {
            place.prove();
        }
        if n % 2 == 0 {
            drop(also);
            drop(place);
        }
    }
    for room in [room, large] {
        let held = room.held();
        assert_eq!((held.stranger_count, held.guests, held.strangers.len()), (0, 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_put_out_of_one_room_loses_its_place_in_the_other() {
    let (room, large) = (Room::of_strangers("test", 8), Room::of_strangers("large", 1));
    let place = room.try_enter(ip("192.0.2.1")).unwrap();
    let _large = place.also_in(&large).unwrap();
    tokio::time::advance(GRACE).await;
    let other = room.try_enter(ip("192.0.2.2")).unwrap();
    assert!(other.also_in(&large).is_some());
    assert!(is_out(&place) && !is_out(&other));
}

#[test]
fn a_source_is_an_address_or_a_network_of_ipv6() {
    for (one, other, is_same) in [
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
    ] {
        assert_eq!(Source::from(ip(one)) == Source::from(ip(other)), is_same, "{one} {other}");
    }
    assert_eq!(Source::from(ip("2001:db8:0:1::1")).to_string(), "2001:db8:0:1::/64");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_loses_its_connection() {
    let within = Duration::from_secs(10);
    let (near, far) = tokio::io::duplex(16);
    let mut near = Timely::new(near, within);
    let began = Instant::now();
    let error = near.write_all(&[0; 64]).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, within));
    drop(far);
}
