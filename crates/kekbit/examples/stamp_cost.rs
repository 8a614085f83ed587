//! Scratch.
use kekbit::{Chain, Durability, Prepare, Timestamp, Writer};
use std::hint::black_box;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
const N: u64 = 100_000;
fn run<C: Chain>(mut w: Writer<C>, mut f: impl FnMut(&mut Writer<C>)) -> f64 {
    let t = Instant::now();
    for _ in 0..N {
        f(&mut w)
    }
    t.elapsed().as_nanos() as f64 / N as f64
}
fn main() {
    let payload = vec![0x5Au8; 96];
    let p104 = vec![0x5Au8; 104];
    let mut v: [Vec<f64>; 6] = Default::default();
    for i in 0..41 {
        let path = format!("/dev/shm/stamp{i}.kek");
        let o =
            || Writer::options().capacity(N * 128 + 8192).prepare(Prepare::All).durability(Durability::Never);
        v[0].push(run(o().create(&path).unwrap(), |w| {
            w.append(black_box(&payload)).unwrap();
        }));
        std::fs::remove_file(&path).unwrap();
        v[1].push(run(o().create(&path).unwrap(), |w| {
            w.append(black_box(&p104)).unwrap();
        }));
        std::fs::remove_file(&path).unwrap();
        v[2].push(run(o().stage(Timestamp::nanos()).create(&path).unwrap(), |w| {
            w.append(black_box(&payload)).unwrap();
        }));
        std::fs::remove_file(&path).unwrap();
        v[3].push(run(o().create(&path).unwrap(), |w| {
            black_box(SystemTime::now());
            w.append(black_box(&p104)).unwrap();
        }));
        std::fs::remove_file(&path).unwrap();
        let t = Instant::now();
        for _ in 0..N {
            black_box(SystemTime::now());
        }
        v[4].push(t.elapsed().as_nanos() as f64 / N as f64);
        let t = Instant::now();
        let mut last = 0;
        for _ in 0..N {
            last = last.max(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
            black_box(last);
        }
        v[5].push(t.elapsed().as_nanos() as f64 / N as f64);
    }
    let m: Vec<f64> = v
        .iter_mut()
        .map(|v| {
            v.sort_by(f64::total_cmp);
            v[v.len() / 2]
        })
        .collect();
    println!(
        "append {:.1}  104 {:.1}  stamped {:.1}  clock+104 {:.1} clock {:.1} nanos {:.1} limit {:.1} ratio {:.2}",
        m[0],
        m[1],
        m[2],
        m[3],
        m[4],
        m[5],
        1.3 * m[0] + m[4],
        (m[2] - m[4]) / m[0]
    );
}
