//! What a daemon makes of a balancer that somebody else has been at.

use super::*;
use crate::balancer::Tended;

#[tokio::test]
async fn what_could_not_be_proved_is_a_problem_until_the_balancer_says_what_it_serves() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let serves = futures_now(crate::balancer::Balancer::observe(&lab.fake)).served;
    lab.fake.serve(Served::Foreign {
        reason: "it finds no markers".to_owned(),
    });
    let what = "markers were lost, set again and not read";
    lab.fake.wear(Tended::Failed(what.to_owned()));
    controller.tend().await;
    let problem = format!("by somebody else: {what}");
    assert_eq!(controller.problems, std::slice::from_ref(&problem));
    // nothing is lost any more, and nothing proved
    controller.tend().await;
    assert_eq!(controller.problems, [problem]);
    lab.fake.serve(serves);
    controller.tend().await;
    assert_eq!(controller.problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_problem_ends_with_the_look_that_puts_it_right() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    for failed in ["first", "second"] {
        lab.fake.wear(Tended::Failed(failed.to_owned()));
        controller.tend().await;
        assert_eq!(controller.problems, [format!("by somebody else: {failed}")]);
    }
    lab.fake.wear(Tended::PutRight("done".to_owned()));
    controller.tend().await;
    assert_eq!(controller.problems, Vec::<String>::new());
}
