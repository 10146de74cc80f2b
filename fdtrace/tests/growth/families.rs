//! Kinds of series. Times are in parts of the time for which a series is watched, so that each length has the same tasks.

use crate::{random::Random, series::Life};

/// What a verdict on a kind of series should be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Nothing leaks.
    Clean,
    /// Something leaks.
    Leak,
    /// Nothing leaks, but nobody could tell in that time.
    TooShort,
}

/// A kind of series.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) truth: Truth,
    /// Handles a second, where there are more than one row.
    pub(crate) rates: &'static [f64],
    pub(crate) make: fn(&mut Random, seconds: f64, rate: f64) -> Vec<Life>,
}

const SLOW_TO_BUSY: &[f64] = &[2.0, 20.0, 200.0];
const BUSY: &[f64] = &[200.0];
const MIDDLING: &[f64] = &[20.0];

pub(crate) fn all() -> Vec<Family> {
    let mut all = steady();
    all.extend(loads());
    all.extend(kept());
    all.extend(leaks());
    all.extend(partial_leaks());
    all.extend(too_short());
    all
}

fn family(
    truth: Truth,
    name: &'static str,
    rates: &'static [f64],
    make: fn(&mut Random, f64, f64) -> Vec<Life>,
) -> Family {
    Family { name, truth, rates, make }
}

fn steady() -> Vec<Family> {
    let clean = |name, rates, make| family(Truth::Clean, name, rates, make);
    vec![
        clean("exponential, mean 50 ms", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.exponential(0.05))
        }),
        clean("exponential, mean 1/20", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.exponential(length / 20.0))
        }),
        clean("exponential, mean 1/4", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.exponential(length / 4.0))
        }),
        clean("lognormal, median 1/100, sigma 1.5", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.lognormal(length / 100.0, 1.5))
        }),
        clean("Pareto, index 1.5, from 10 ms", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.pareto(0.01, 1.5))
        }),
        clean("Pareto, index 1, from 10 ms", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.pareto(0.01, 1.0))
        }),
        clean("Pareto, index 0.8, from 10 ms", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| random.pareto(0.01, 0.8))
        }),
        clean("two kinds: 9 of 10 mean 50 ms, 1 of 10 mean 1/10", SLOW_TO_BUSY, |random, length, rate| {
            flat(random, length, rate, |random| {
                let long = random.uniform() < 0.1;
                random.exponential(if long { length / 10.0 } else { 0.05 })
            })
        }),
    ]
}

fn loads() -> Vec<Family> {
    let clean = |name, rates, make| family(Truth::Clean, name, rates, make);
    vec![
        clean("load rises to 5 times, mean 1/20", SLOW_TO_BUSY, |random, length, rate| {
            loaded(random, length, rate, ramp, |random| random.exponential(length / 20.0))
        }),
        clean("load like a sine, mean 1/20", SLOW_TO_BUSY, |random, length, rate| {
            loaded(random, length, rate, sine, |random| random.exponential(length / 20.0))
        }),
        clean("50 at once, every 1/8, for 1/12", MIDDLING, |random, length, _| {
            let starts = (0..8).map(|batch| f64::from(batch) * length / 8.0);
            starts.flat_map(|start| together(random, start, 50, length / 12.0)).collect()
        }),
    ]
}

fn kept() -> Vec<Family> {
    let clean = |name, rates, make| family(Truth::Clean, name, rates, make);
    vec![
        clean("50 at the start, kept", MIDDLING, |random, _, _| together(random, 0.1, 50, f64::INFINITY)),
        clean("the same, beside short lives", BUSY, |random, length, rate| {
            let mut lives = flat(random, length, rate, |random| random.exponential(0.05));
            lives.extend(together(random, 0.1, 50, f64::INFINITY));
            lives
        }),
        clean("pool of 40, full after 1/4", MIDDLING, |random, length, _| pool(random, length / 4.0, 40)),
        clean("the same, beside short lives", BUSY, |random, length, rate| {
            let mut lives = flat(random, length, rate, |random| random.exponential(0.05));
            lives.extend(pool(random, length / 4.0, 40));
            lives
        }),
        clean("pool, grows with the highest demand", MIDDLING, |random, length, _| demand(random, length)),
        clean("cache, full after 1/3, evicts the oldest", SLOW_TO_BUSY, |random, length, rate| {
            let size = (rate * length / 3.0).max(1.0);
            flat(random, length, rate, |_| size / rate)
        }),
        clean("cache, full after 1/4, evicts any", SLOW_TO_BUSY, evicts_any),
    ]
}

fn leaks() -> Vec<Family> {
    let leak = |name, rates, make| family(Truth::Leak, name, rates, make);
    vec![
        leak("all, 15 in the whole time", MIDDLING, |random, length, _| {
            (0..15).map(|_| Life { birth: random.uniform() * length, age: f64::INFINITY }).collect()
        }),
        leak("all, 2 a second", MIDDLING, |random, length, _| flat(random, length, 2.0, |_| f64::INFINITY)),
        leak("all, load rises to 5 times", MIDDLING, |random, length, rate| {
            loaded(random, length, rate, ramp, |_| f64::INFINITY)
        }),
        leak("all, load like a sine", MIDDLING, |random, length, rate| {
            loaded(random, length, rate, sine, |_| f64::INFINITY)
        }),
        leak("from 60 % of the time on, 1 of 10", MIDDLING, |random, length, rate| {
            let mut lives = flat(random, length, rate, |random| random.exponential(0.05));
            for life in &mut lives {
                let leaks = life.birth > length * 0.6 && random.uniform() < 0.1;
                life.age = if leaks { f64::INFINITY } else { life.age };
            }
            lives
        }),
        leak("10 at once, every 1/6, beside short lives", BUSY, |random, length, rate| {
            let mut lives = flat(random, length, rate, |random| random.exponential(0.05));
            let starts = (0..6).map(|burst| (f64::from(burst) + 0.3) * length / 6.0);
            lives.extend(starts.flat_map(|start| together(random, start, 10, f64::INFINITY)));
            lives
        }),
        leak("1 of 10, load like a sine, mean 1/20", BUSY, |random, length, rate| {
            loaded(random, length, rate, sine, |random| {
                let leaks = random.uniform() < 0.1;
                if leaks { f64::INFINITY } else { random.exponential(length / 20.0) }
            })
        }),
    ]
}

fn partial_leaks() -> Vec<Family> {
    let leak = |name, rates, make| family(Truth::Leak, name, rates, make);
    vec![
        leak("1 of 2, mean 50 ms", SLOW_TO_BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.5, |random| random.exponential(0.05))
        }),
        leak("1 of 10, mean 50 ms", SLOW_TO_BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.1, |random| random.exponential(0.05))
        }),
        leak("1 of 100, mean 50 ms", BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.01, |random| random.exponential(0.05))
        }),
        leak("1 of 1,000, mean 50 ms", BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.001, |random| random.exponential(0.05))
        }),
        leak("1 of 10, mean 1/20", SLOW_TO_BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.1, |random| random.exponential(length / 20.0))
        }),
        leak("1 of 100, mean 1/20", BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.01, |random| random.exponential(length / 20.0))
        }),
        leak("1 of 100, lognormal, median 20 ms, sigma 1.5", BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.01, |random| random.lognormal(0.02, 1.5))
        }),
        leak("1 of 100, Pareto, index 1.5, from 10 ms", BUSY, |random, length, rate| {
            leaky(random, length, rate, 0.01, |random| random.pareto(0.01, 1.5))
        }),
    ]
}

fn too_short() -> Vec<Family> {
    let short = |name, make| family(Truth::TooShort, name, SLOW_TO_BUSY, make);
    vec![
        short("exponential, mean 1/2 of the time", |random, length, rate| {
            flat(random, length, rate, |random| random.exponential(length / 2.0))
        }),
        short("exponential, mean the whole time", |random, length, rate| {
            flat(random, length, rate, |random| random.exponential(length))
        }),
        short("exponential, mean 5 times as long", |random, length, rate| {
            flat(random, length, rate, |random| random.exponential(length * 5.0))
        }),
        short("cache, full only later", |random, length, rate| flat(random, length, rate, |_| length * 1.5)),
    ]
}

/// Handles come at random, with this rate.
fn flat(random: &mut Random, length: f64, rate: f64, age: impl Fn(&mut Random) -> f64) -> Vec<Life> {
    loaded(random, length, rate, |_| 1.0, age)
}

/// The same under a load, from 0 to 1, which depends on the part of the time.
fn loaded(
    random: &mut Random,
    length: f64,
    rate: f64,
    load: impl Fn(f64) -> f64,
    age: impl Fn(&mut Random) -> f64,
) -> Vec<Life> {
    let (mut lives, mut time) = (Vec::new(), 0.0);
    loop {
        time += random.exponential(1.0 / rate);
        if time >= length {
            return lives;
        }
        if random.uniform() <= load(time / length) {
            lives.push(Life { birth: time, age: age(random) });
        }
    }
}

fn ramp(part: f64) -> f64 {
    0.2 + 0.8 * part
}

/// Two days.
fn sine(part: f64) -> f64 {
    0.55 + 0.45 * (part * 2.0 * std::f64::consts::TAU).sin()
}

fn leaky(
    random: &mut Random,
    length: f64,
    rate: f64,
    share: f64,
    age: impl Fn(&mut Random) -> f64,
) -> Vec<Life> {
    flat(random, length, rate, |random| {
        let leaks = random.uniform() < share;
        if leaks { f64::INFINITY } else { age(random) }
    })
}

fn together(random: &mut Random, start: f64, count: u32, age: f64) -> Vec<Life> {
    (0..count).map(|_| Life { birth: start + random.uniform() * 0.1, age }).collect()
}

fn pool(random: &mut Random, until: f64, size: u32) -> Vec<Life> {
    (0..size).map(|_| Life { birth: random.uniform() * until, age: f64::INFINITY }).collect()
}

/// Whoever needs a connection when all are in use opens one more, and all are kept.
fn demand(random: &mut Random, length: f64) -> Vec<Life> {
    let (mut lives, mut time) = (Vec::new(), 0.0);
    let mut busy_until: Vec<f64> = Vec::new();
    loop {
        time += random.exponential(length / 5000.0);
        if time >= length {
            return lives;
        }
        let until = time + random.exponential(length / 250.0);
        match busy_until.iter_mut().find(|busy| **busy <= time) {
            Some(idle) => *idle = until,
            None => {
                busy_until.push(until);
                lives.push(Life { birth: time, age: f64::INFINITY });
            }
        }
    }
}

/// A full cache drops one of its handles, whichever, for each new one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are small")]
fn evicts_any(random: &mut Random, length: f64, rate: f64) -> Vec<Life> {
    let mut lives = flat(random, length, rate, |_| f64::INFINITY);
    let size = ((rate * length / 4.0) as usize).max(1);
    let mut cached: Vec<usize> = Vec::new();
    for index in 0..lives.len() {
        if cached.len() == size {
            let place = ((random.uniform() * size as f64) as usize).min(size - 1);
            let gone = std::mem::replace(&mut cached[place], index);
            lives[gone].age = lives[index].birth - lives[gone].birth;
        } else {
            cached.push(index);
        }
    }
    // What is in the cache at the end stays as long as it is watched, and is no leak.
    lives.iter_mut().filter(|life| life.age.is_infinite()).for_each(|life| life.age = length * 2.0);
    lives
}
