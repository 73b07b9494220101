"""Held-out prompts for evaluation: sentences and emotion words that are not in training (ours)."""

from emotivetalk.corpus.prompt import DESCRIBED, PLAIN, EmotionPrompt, lines, weakened

DEMO_PROMPTS = (
    EmotionPrompt("Speak seriously", "neutral", PLAIN, "word"),
    EmotionPrompt("Be cheerful and say that sentence", "happy", PLAIN, "word"),
)
"""The two prompts of the paper, held out as well."""


def _held_out(emotion: str, words: str, situations: str) -> tuple[EmotionPrompt, ...]:
    return (
        *(EmotionPrompt(text, emotion, PLAIN, "word") for text in lines(words)),
        *(EmotionPrompt(text, emotion, DESCRIBED, "situation") for text in lines(situations)),
    )


HELD_OUT: tuple[EmotionPrompt, ...] = (
    *_held_out(
        "neutral",
        """Speak in a deadpan manner
        Use a businesslike delivery
        Be impassive
        Narrate it like an encyclopaedia
        Use a monotone
        Deliver the line dispassionately
        An unemotional announcement
        Stay poker-faced
        Like a newsreader
        Be impartial
        Poised and level-headed""",
        """You are giving somebody the opening hours over the telephone.
        You are reading a shopping list into a recorder.
        A clerk reads the register of names.
        You describe how to assemble a shelf.""",
    ),
    *_held_out(
        "angry",
        """Be irate
        Say it in an infuriated manner
        You are fuming
        Your blood is boiling
        Seething inside
        Lose your temper with the customer service
        Speak wrathfully
        He is incensed
        You have had enough of this insolence
        Blow your top
        Tell them off
        exasperated and ready to explode
        a vexed customer
        Like a drill sergeant bellowing at recruits""",
        """The thief grins and walks away with your bicycle.
        Your brother smashed your phone on purpose.
        The landlord raised the rent and switched off the heating.
        A colleague blamed you publicly for his own mistake.""",
    ),
    *_held_out(
        "contempt",
        """Be disdainful
        Speak derisively
        Sneer at the newcomer
        In a patronising way
        You look down your nose at everybody here
        supercilious
        Snooty like an aristocrat among beggars
        Say it with disdain
        Make a derogatory remark
        You think they are a bunch of losers
        Turn up your nose at these commoners
        a sarcastic and pompous critic
        Jeer at the failure
        cocky, better than everyone""",
        """What a joke, this fool calls himself an expert.
        Is that supposed to be your best, little man?
        You find the competitors laughably incompetent.
        The servant dares to offer you, a duke, advice.""",
    ),
    *_held_out(
        "disgusted",
        """Be repulsed
        Yuck
        You feel sickened
        That is icky
        Say it as if you stood in sewage
        repelled by the stench
        Ugh, how foul
        You want to puke
        Say it like there is a bad taste in your mouth
        Speak as though you had swallowed a worm
        Eat a bug and comment on it
        That is so nasty and filthy
        a face that says yuck
        loathsome, vile, putrid""",
        """The fridge was off for weeks and something is growing in it.
        There is dog poo on your shoe.
        A stranger's wet handkerchief sticks to your hand.
        The sausage is green and furry.""",
    ),
    *_held_out(
        "fear",
        """Be petrified
        You are apprehensive
        Dread what is coming
        Shake like a leaf
        Your voice is trembling because of the ghost
        You are spooked
        Speak as though a murderer stood behind you
        Your knees are knocking before the tiger
        Say it with horror, something lurks in the shadows
        jittery and jumpy
        alarmed by the gunshots
        Cowardly, spare me
        Your hair stands on end
        horrified by the zombies""",
        """The elevator cable snaps and you are falling.
        A bear has found your tent.
        Smoke comes in under the door of your hotel room.
        Armed men storm the bank where you are queuing.""",
    ),
    *_held_out(
        "happy",
        """Be elated
        Sound gleeful
        You are in high spirits
        Speak jubilantly
        Say it with a beaming grin
        You are on cloud nine
        Over the moon about it
        In a jolly mood
        blissful
        Be exuberant
        Chuckle while you speak
        upbeat
        radiant, life is beautiful
        rejoice
        Have the time of your life""",
        """You just became a father of a healthy boy.
        The band plays your favourite song at the festival.
        Your scholarship was approved.
        Grandma has baked your favourite cake and the whole family is here.""",
    ),
    *_held_out(
        "sad",
        """Be dejected
        You are depressed
        Speak mournfully
        Weep while you talk
        Feeling blue
        Say it with a lump in your throat
        crestfallen
        Sob
        You are in despair after the loss
        despondent and downcast
        glum
        a woeful voice
        Speak as though you had lost a loved one
        bereaved
        homesick and abandoned""",
        """Your wife was buried yesterday.
        The little bird you nursed did not live through the night.
        He rips up the photographs of their years together.
        The orphan waits at the window for parents who will not return.""",
    ),
    *_held_out(
        "surprised",
        """Be astounded
        You are dumbfounded
        Awestruck
        You can't believe your eyes
        Your jaw drops
        gobsmacked
        Say it as though you had not seen it coming
        Whoa, where did that come from?
        Speechless at the sight
        bowled over by it
        You never would have guessed it
        stupefied
        Blimey!
        Who would have thought that?""",
        """A spaceship lands in your garden.
        Your goldfish just said good morning.
        The man you buried years ago rings your doorbell.
        Without warning a celebrity walks into your classroom.""",
    ),
)
"""Prompts in wording that training has not seen."""

MEANINGLESS: tuple[EmotionPrompt, ...] = tuple(
    EmotionPrompt(text, None, 0.0, "none")
    for text in lines("""
        asdf qwer zxcv
        xkcd 9071 ffff
        ..........
        lorem ipsum dolor sit amet
        blue green seventeen
        The square root of sixteen is four.
        The warehouse opens at half past six.
        Copper conducts electricity.
        <div class="row"></div>
        git rebase --interactive
        Mix flour with yeast and let it rest.
        The cupboard has two doors and a mirror.
        Tilt the head upwards.
        Speak more quietly.
        A photograph of an elderly man with a beard
        The committee meets every second Thursday.
        umbrella parliament zinc
        1 + 1 = 2
        Chapter nine: irrigation""")
)

NEGATED: tuple[EmotionPrompt, ...] = tuple(
    EmotionPrompt(text, None, 0.0, "negation")
    for text in lines("""
        Avoid being irate
        You need not be petrified
        Do not weep
        Don't sneer
        Do not be gleeful
        Nothing here is repulsive
        You are not astounded
        Refrain from being mournful
        There is no need for dread
        I do not want you to be elated""")
)

INTENSITY_PAIRS: tuple[tuple[EmotionPrompt, EmotionPrompt], ...] = tuple(
    (EmotionPrompt(weak, emotion, weakened(PLAIN), "word"), EmotionPrompt(strong, emotion, 1.0, "word"))
    for emotion, weak, strong in (
        ("angry", "Be faintly peeved", "You are boiling with wrath"),
        ("angry", "Be just a touch irate", "Be tremendously irate"),
        ("contempt", "With a trace of disdain", "With boundless disdain"),
        ("contempt", "Be vaguely disdainful", "Be overwhelmingly disdainful"),
        ("disgusted", "Be faintly repulsed", "Be enormously repulsed"),
        ("disgusted", "It is just a touch icky", "It is the most repulsive thing in the world"),
        ("fear", "Be faintly apprehensive", "Be utterly petrified"),
        ("fear", "A trace of dread", "Overwhelming dread"),
        ("happy", "Be just a touch cheerful", "Be immensely elated"),
        ("happy", "In a fairly jolly mood", "In a tremendously jubilant mood"),
        ("sad", "Be just a touch glum", "Be immensely mournful"),
        ("sad", "Feeling faintly blue", "Sob in the deepest despair"),
        ("surprised", "Be vaguely astounded", "Be utterly astounded"),
        ("surprised", "Be just a touch dumbfounded", "Be tremendously dumbfounded"),
    )
)
"""Pairs of prompts for the same emotion, the weaker first, with modifiers that are not in training."""
