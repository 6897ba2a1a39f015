//! Whatever becomes of a graph, its functions are dropped exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Kind, Tensor, no_grad};
use tch_autograd::{apply, view_mut};

use crate::functions::{Counted, Cube, leaf};

struct Counter(Arc<AtomicUsize>);

impl Counter {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn function(&self, save_output: bool) -> Counted {
        Counted { drops: Arc::clone(&self.0), save_output }
    }

    fn drops(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn the_function_lives_as_long_as_its_graph() {
    let (counter, x) = (Counter::new(), leaf(&[1.0]));
    let y = apply(counter.function(false), &[&x]).unwrap().remove(0);
    let z = &y * 2.0;
    drop(y);
    assert_eq!(counter.drops(), 0);
    z.backward();
    assert_eq!(counter.drops(), 0);
    drop(z);
    assert_eq!(counter.drops(), 1);
}

#[test]
fn the_function_is_dropped_at_once_where_nothing_is_recorded() {
    let (counter, x) = (Counter::new(), leaf(&[1.0]));
    let _y = no_grad(|| apply(counter.function(true), &[&x]).unwrap());
    assert_eq!(counter.drops(), 1);
    let _z = apply(counter.function(true), &[&x.detach()]).unwrap();
    assert_eq!(counter.drops(), 2);
    assert!(apply(counter.function(true), &[]).is_err());
    assert_eq!(counter.drops(), 3);
}

#[test]
fn a_saved_output_makes_no_cycle() {
    let (counter, x) = (Counter::new(), leaf(&[1.0]));
    for _ in 0..10 {
        let _never_differentiated = apply(counter.function(true), &[&x]).unwrap();
        let y = apply(counter.function(true), &[&x]).unwrap().remove(0);
        y.backward();
    }
    assert_eq!(counter.drops(), 20);
}

#[test]
fn graphs_of_gradients_are_dropped_too() {
    let (counter, x) = (Counter::new(), leaf(&[1.0, 2.0]));
    for _ in 0..10 {
        let y = apply(counter.function(true), &[&(&x * 3.0)]).unwrap().remove(0);
        let root = (&y * &y).sum(Kind::Double);
        let grad = Tensor::f_run_backward(&[&root], &[&x], true, true).unwrap().remove(0);
        let error = Tensor::f_run_backward(&[grad.sum(Kind::Double)], &[&x], true, false);
        assert!(error.is_err());
    }
    assert_eq!(counter.drops(), 10);
}

#[test]
fn the_function_is_dropped_on_the_thread_that_drops_the_graph() {
    let (counter, x) = (Counter::new(), leaf(&[1.0]));
    let y = apply(counter.function(true), &[&x]).unwrap();
    std::thread::spawn(move || drop(y)).join().unwrap();
    assert_eq!(counter.drops(), 1);
}

#[test]
fn no_handle_of_a_tensor_stays_behind() {
    let mut x = leaf(&[1.0, 2.0]);
    let y = apply(Cube, &[&x]).unwrap().remove(0).sum(Kind::Double);
    assert!(view_mut::<f64>(&mut x).is_err());
    let grad = Tensor::f_run_backward(&[&y], &[&x], false, false).unwrap();
    drop((y, grad));
    // A mutable view is given for the only handle alone.
    view_mut::<f64>(&mut x).unwrap()[0] = 5.0;
    assert_eq!(x.double_value(&[0]), 5.0);
}
