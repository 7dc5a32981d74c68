"""v(T) for all 2**n_players masks of a prompt.

evaluate     the front doors: one prompt, or one after the other
schedule     prompts in flight: batches are started before the last ones are done
tree         tokens that masked prompts share are evaluated once
prefix_tree  which tokens these are, and in which order they go
draws        the mean over words that were drawn
naive        every masked prompt from scratch, as a reference
log_odds     from hidden states to the log-odds of a target
noise_floor  how exactly v is known
planning     what an evaluation will take
"""

from andor.evaluation.evaluate import check_fits as check_fits
from andor.evaluation.evaluate import evaluate as evaluate
from andor.evaluation.evaluate import evaluate_all as evaluate_all
from andor.evaluation.evaluate import outcomes as outcomes
from andor.evaluation.evaluate import predict_target as predict_target
from andor.evaluation.log_odds import Score as Score
from andor.evaluation.schedule import MATMUL_PRECISION as MATMUL_PRECISION
