"""Text to players, tokens and target. NumPy only.

players   which words are masked, as character spans
spacing   whether a space stands before the target
prompt    a text, its players and its target
masks     what becomes of a masked word
tokens    a prompt under one tokenizer
jsonl     files of prompts
"""

from andor.prompts.jsonl import DEFAULT_PROMPTS as DEFAULT_PROMPTS
from andor.prompts.jsonl import read_prompts as read_prompts
from andor.prompts.jsonl import with_ids as with_ids
from andor.prompts.masks import NO_TOKEN as NO_TOKEN
from andor.prompts.masks import Mask as Mask
from andor.prompts.masks import baseline_id as baseline_id
from andor.prompts.masks import read_mask as read_mask
from andor.prompts.players import default_players as default_players
from andor.prompts.prompt import Prompt as Prompt
from andor.prompts.spacing import continuation as continuation
from andor.prompts.tokens import PlayerRow as PlayerRow
from andor.prompts.tokens import TokenizedPrompt as TokenizedPrompt
from andor.prompts.tokens import chat_template as chat_template
from andor.prompts.tokens import in_chat as in_chat
from andor.prompts.tokens import joined as joined
from andor.prompts.tokens import player_table as player_table
from andor.prompts.tokens import remarks as remarks
from andor.prompts.tokens import tokenize as tokenize
