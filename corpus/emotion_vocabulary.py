"""The words that the training prompts of the text source are made of, by emotion (ours).

The held-out prompts of `corpus/emotion_prompts.py` must stay in words that are not here; a test holds the two apart.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """The words of one emotion.

    Phrases complete "be ...", "full of ...", "speak ..." and "you ...";
    scenes are sentences.
    """

    mild: tuple[str, ...]
    plain: tuple[str, ...]
    strong: tuple[str, ...]
    nouns: tuple[str, ...]
    adverbs: tuple[str, ...]
    actions: tuple[str, ...]
    scenes: tuple[str, ...]


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(",") if phrase.strip())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


VOCABULARY: dict[str, Vocabulary] = {
    "neutral": Vocabulary(
        mild=(),
        plain=_phrases("""
            neutral, calm, ordinary, plain, matter-of-fact, composed, factual, steady, objective, restrained, bland,
            expressionless, formal, sober, detached, normal, unmoved, stoic, emotionless, even-tempered, cool-headed,
            blank, flat, indifferent, unexcited, measured, reserved, professional, official, robotic, toneless,
            balanced, unaffected, collected, equable, placid, relaxed, straight-faced, unbiased, earnest, grave,
            no-nonsense, solemn, stone-faced, wooden, unfeeling, informative, explanatory, technical, unflappable,
            tranquil, focused, phlegmatic, dry, mechanical, apathetic, clinical, dull-voiced, unruffled, nonchalant,
            stolid, inexpressive, uninvolved, laconic, prosaic, understated, unemphatic, clear and sober, flat-toned,
            imperturbable, self-possessed, unsentimental, disinterested, nondescript, unadorned, to the point,
            no-frills, deliberate"""),
        strong=(),
        nouns=_phrases("""
            neutrality, composure, calm, no emotion, objectivity, no feeling, detachment, sobriety, reserve,
            formality, indifference, equanimity, a straight face, an even voice, professionalism"""),
        adverbs=_phrases("""
            neutrally, calmly, plainly, evenly, normally, formally, soberly, factually, stoically, blandly, flatly,
            objectively, professionally, solemnly, gravely, earnestly, without emotion, in an even voice"""),
        actions=_phrases("""
            read out the news, give a lecture, recite the timetable, read the manual aloud, keep a straight face,
            report the figures, state the facts, show no emotion, explain the procedure, give a formal statement,
            read a dictionary entry, dictate a letter, list the ingredients, summarise the report, testify in court,
            present the weather forecast, give directions to a driver, talk like a robot, keep a blank face, speak
            for the record, brief the staff, quote the statute, fill in a form, read a legal contract, lecture like a
            professor, speak like a satnav, talk in a flat tone, read like a machine, deliver a report without
            feeling, keep your composure, stay cool, remain calm, betray no feeling, hide your emotions, tell it as
            it is, stick to the facts, act as if nothing had happened"""),
        scenes=_lines("""
            You are reading the minutes of a meeting.
            You are a judge who reads out a sentence from the file.
            You announce the next stop on the bus.
            You dictate a business letter to your secretary.
            It is just another day at the office.
            You explain to a colleague how the printer works.
            You present quarterly results to the board.
            You read the terms and conditions aloud.
            You are an automatic telephone assistant.
            You are a doctor taking notes about a routine visit.
            A librarian tells a reader where the atlases are.
            You narrate a documentary about the history of roads.
            A pilot makes a routine announcement to the passengers.
            A teacher dictates a text to the class.
            You tell a customer the price of a ticket.
            The speaker of the ministry reads a statement.
            You recite the table of contents.
            A museum guide gives the dates of a painting.
            A receptionist reads out the room numbers.
            A secretary takes the minutes.
            The voice at the station announces a platform.
            You read the label on a box.
            You give your date of birth to an official.
            The curator describes the building's measurements.
            You read out a telephone number, digit by digit.
            The scientist sums up the method of the study."""),
    ),
    "angry": Vocabulary(
        mild=_phrases("""
            annoyed, irritated, cross, grumpy, impatient, bothered, testy, irritable, displeased, frustrated,
            grouchy, crabby, miffed, huffy, ill-tempered, snappy, nettled, fed up, prickly, disgruntled"""),
        plain=_phrases("""
            angry, mad, hostile, resentful, indignant, aggressive, heated, hot-tempered, bitter, spiteful, hateful,
            vengeful, quarrelsome, belligerent, cranky, riled, steamed, sore at them, stern, threatening, accusing,
            argumentative, combative, antagonistic, provoked, agitated, short-fused, mean, fierce, harsh, aggrieved,
            irascible, choleric, pugnacious, sullen, surly, huffing and puffing, waspish, wild with rage, tetchy,
            cantankerous, offended, insulted, embittered, rancorous, malevolent, confrontational, bad-tempered,
            foul-tempered, venomous, worked up, disgruntled and loud, scowling, glowering, frowning, snarling,
            shouting, yelling, growling"""),
        strong=_phrases("""
            furious, enraged, outraged, raging, livid, hopping mad, boiling with rage, mad as hell, savage,
            ferocious, rabid, beside yourself with anger, burning with hate, ready to hit someone, up in arms,
            vicious, apoplectic, maddened, frenzied, hot under the collar, ready to strangle him, spitting mad,
            foaming at the mouth, berserk, raving, ballistic, up the wall, steaming, inflamed, white-hot with rage,
            mad as a hornet"""),
        nouns=_phrases("""
            anger, rage, fury, irritation, hostility, annoyance, outrage, ire, hatred, resentment, indignation,
            spite, aggression, frustration, bitterness, ill will, animosity, vengeance, cruelty, venom, grudge, hate"""),
        adverbs=_phrases("""
            angrily, furiously, crossly, aggressively, impatiently, hotly, indignantly, fiercely, bitterly,
            irritably, savagely, resentfully, harshly, spitefully, sternly, in anger, in a rage, with clenched teeth"""),
        actions=_phrases("""
            yell at them, shout at the boy, snap at him, scold the child, argue loudly, slam the door, bang on the
            table, growl through your teeth, curse the driver, scream at the neighbours, demand an explanation at
            once, threaten to sue them, clench your fists, see red, hit the roof, fly off the handle, go berserk,
            lash out, pick a fight, snarl at them, swear at the machine, lose control and rage, rant about the
            government, rebuke the pupils, give him a piece of your mind, go ballistic, reprimand the soldier, throw
            a tantrum, kick the door in, bark orders, roar at the enemy, want revenge, have lost all patience with
            him, complain to the manager, stamp your feet, quarrel with your neighbour, hate him for what he did,
            cannot stand this rudeness any longer, are out for a fight, thunder at the crowd, berate the waiter, get
            worked up, go through the roof, blow a fuse, have steam coming out of your ears, bite his head off, read
            him the riot act, rage against the machine, raise your voice against him, jump down his throat, get mad,
            let off steam, go mental, tear a strip off them, hurl abuse at the driver, glare at him, grind your
            teeth, flip out, dress him down, have a bone to pick with him, want to punch him, foam with rage, burst
            with rage"""),
        scenes=_lines("""
            Someone scratched your new car and drove off.
            Your flatmate ate your lunch again without asking.
            They lied to you about the money for years.
            The referee robbed your team of a fair goal.
            He keeps interrupting you in every single meeting.
            The builders broke your window and refuse to pay.
            A driver cuts in front of you and honks.
            The airline cancelled your flight and will not give a refund.
            Your neighbour plays loud music at three in the morning again.
            Somebody insulted your mother.
            Your boss took credit for all of your work.
            A man kicked your dog.
            The company charged you twice and hung up on you.
            You just lost your keys, for the third time this week, and it is all his fault.
            Burglars have stolen everything you own, and they laugh about it.
            Your sister ruined your best dress deliberately.
            The waiter was rude and then demanded a tip.
            They cheated you out of your inheritance.
            Your partner has been cheating on you.
            The bully hit your little son at school.
            Vandals sprayed paint over your house.
            How dare you talk to me like that!
            Get out of my house this instant!
            This is unfair, we will not put up with it any more!
            I told you a hundred times not to touch that!
            You have been waiting for two hours and they served everyone else first.
            Your employer has not paid you for three months.
            He betrayed your secret to everyone.
            Grr!
            Damn it!
            Argh, enough!
            Shut up!
            Go to hell!
            That is outrageous!
            I hate you!
            You idiot, look what you have done!
            Leave me alone, you bastard!
            Stop it right now or else!
            The mechanic overcharged you and broke the engine.
            A hooligan spits at your friend.
            Your ex slashed your tyres.
            The council tore down your house by mistake and shrugs."""),
    ),
    "contempt": Vocabulary(
        mild=_phrases("""
            dismissive, unimpressed, smug, snobbish, aloof, sceptical of their worth, stuck-up, self-satisfied,
            blasé, conceited, ironic, cynical, self-important, vain, high and mighty, jaded, disapproving, bored by
            these fools"""),
        plain=_phrases("""
            contemptuous, scornful, condescending, mocking, arrogant, haughty, disrespectful, superior, snide,
            taunting, belittling, imperious, snotty, holier-than-thou, insulting, overbearing, lordly, sardonic,
            cutting, biting, caustic, scathing, withering, disparaging, presumptuous, proud and cold, elitist,
            uppity, full of yourself, above such people, sniffy, stuffy, hoity-toity, pretentious, bumptious,
            swaggering, vainglorious, mean and superior, catty, irreverent, highbrow and cold, opprobrious, scoffing,
            smirking, contumelious, dismissive of beginners, bigheaded, egotistic, cavalier, domineering, supremely
            bored by them, princely and cold, toffee-nosed, lofty, sniggering, blaming, judgemental, flippant, wry
            and cutting"""),
        strong=_phrases("""
            utterly scornful, full of contempt, deeply contemptuous, insufferably arrogant, withering with scorn,
            mercilessly mocking, despising everyone, humiliating, merciless to the weak, despicable to the poor,
            sneeringly superior, brimming with scorn, thoroughly arrogant, totally dismissive"""),
        nouns=_phrases("""
            contempt, scorn, arrogance, mockery, condescension, smugness, disrespect, haughtiness, ridicule,
            snobbery, conceit, hubris, cynicism, superiority, sardonic irony, belittlement"""),
        adverbs=_phrases("""
            contemptuously, scornfully, condescendingly, arrogantly, mockingly, smugly, haughtily, sardonically,
            dismissively, tauntingly, cynically, snidely, disrespectfully, with a smirk, from above, with curled lip"""),
        actions=_phrases("""
            scoff at them, smirk at the rookie, roll your eyes at him, mock the amateur, treat them as inferior, talk
            down to her, ridicule the proposal, belittle his work, raise one corner of the mouth, dismiss them with a
            wave of the hand, make them feel small, laugh at their pathetic attempt, despise the weakling, look down
            on the poor, snub the visitor, hold them in low regard, insult the rookie, think that you are better than
            they are, make fun of the dunce, deride the theory, humiliate the intern, sniff at the cheap wine, treat
            him like dirt, consider them unworthy, taunt the defeated, snicker at the fool, cannot take such an idiot
            seriously, put the upstart in his place, shrug off the nobody, give the peasant a cold look, find it all
            beneath you, scorn the mob, smile coldly at the failure, lecture the ignorant, boast that nobody is your
            equal, disrespect the umpire, call it amateurish, cut him dead, hold them cheap, think nothing of him,
            give him short shrift, scoff at the dilettantes, snort at the suggestion, treat them with condescension,
            act superior, mock and taunt the failure, look at her as if she were an insect, smirk at their
            incompetence, talk to him like to a simpleton, put on airs, consider yourself superior, sniff at the
            riffraff, roll your eyes at this rubbish, lord it over them, pooh-pooh the plan, laugh him to scorn, damn
            with faint praise, turn your back on the rabble, belittle everybody, act high and mighty, wipe the floor
            with the amateurs, pour scorn on it, hiss at the bad actor"""),
        scenes=_lines("""
            The beginner thinks that he can beat you, the champion.
            What a pathetic excuse, you expected nothing better from him.
            They call that cheap copy a work of art.
            He cannot even spell his own name and wants to teach you.
            You are far above these people and let them know it.
            Those peasants do not deserve your time.
            The amateur proudly shows you his worthless little invention.
            She boasts about a prize that nobody respects.
            Your rival made a fool of himself, as always.
            You hear a lazy cheat give a lecture about honesty.
            As if anyone would take such a nobody seriously.
            He is beneath you and not worth an answer.
            Oh please, even a child could do better than that.
            You call this cooking? My cat would not touch it.
            The new employee is a moron and you make sure that he knows.
            A rich snob talks to the cleaning lady.
            How quaint, the village band thinks it is an orchestra.
            You have never met anybody so stupid.
            The duchess meets the vulgar newly rich.
            So this is the famous genius? Laughable.
            The professor mocks the student's silly question.
            Nobody needs your worthless opinion.
            You won so easily that the opponent was hardly worth the effort.
            They dress like tramps and think that they belong in this club.
            Pff.
            Tsk, how primitive.
            Hmph!
            Meh, you again.
            As if!
            Whatever, loser.
            Do not make me laugh.
            Pathetic.
            What a bunch of clowns.
            You are not even worth my time.
            Who do you think you are?
            My dear, you would not understand that anyway.
            Their little shop thinks that it can compete with my empire.
            I would not hire you to sweep the floor.
            How very provincial of you.
            You bore me, peasant.
            The critic tears the clumsy novel to pieces with a smile.
            Look at that ridiculous outfit."""),
    ),
    "disgusted": Vocabulary(
        mild=_phrases("""
            queasy, squeamish, put off by the smell, slightly sick, turned off, averse, bilious, uncomfortable with
            dirt, not hungry any more, put off your food, unwell from the odour"""),
        plain=_phrases("""
            disgusted, grossed out, nauseated, sick to the stomach, about to vomit, nauseous, gagging, full of
            aversion, creeped out by the slime, repugnant, gross, disgusting, revolting, stinking, sickly,
            distasteful, unable to swallow it, offended by the smell, green in the face, retching, sick, turned off
            by the stink, fed up with the dirt, put off, hideously gross, unappetising, slimy, rancid, mouldy, grimy,
            greasy, smelly, rotten, fetid, unsavoury, off-putting, stomach-turning, vomiting, wincing at the smell,
            noxious, rank, malodorous, contaminated, squalid, gruesome to the taste"""),
        strong=_phrases("""
            revolted, completely disgusted, nauseated beyond words, ready to throw up, sick with revulsion,
            abhorrent, violently nauseous, dying of disgust, heaving with nausea"""),
        nouns=_phrases("""
            disgust, nausea, revulsion, distaste, queasiness, aversion, repugnance, abhorrence, antipathy to filth, a
            gagging reflex, sickness at the sight, grossness, vomit, stink, rot, slime, mould, dirt, squalor, reek,
            bile, muck"""),
        adverbs=_phrases("""
            disgustedly, with a wrinkled face, as if something stinks, as if about to be sick, queasily, nauseously,
            with aversion, as if you had to vomit, as if it were rotten, with a protruding tongue"""),
        actions=_phrases("""
            wrinkle your face at the smell, gag on the food, spit it out, cover your mouth, turn away from the dirt,
            say that it is gross, complain about the vomit on the floor, pull a face at the rotten fish, say eww,
            push away the mouldy plate, recoil from the slime, retch, throw up, feel your stomach turn, hold your
            breath, find a hair in your food, smell something rotten, want to vomit, lose your appetite, say bleh,
            shudder at the taste of the spoilt milk, see maggots, cannot bear the odour, clean up the dog's mess,
            scrape mould off the wall, taste something vomit-like, touch something sticky and slimy, say pfui,
            inspect the dirty toilet, spit out the sour wine, gross everybody out, say how revolting this is, refuse
            to eat that slop, get sick from the reek, smell unwashed feet, abhor the mess, feel sick, smell a skunk,
            be sick into a bucket, have to throw up, gag, taste something rotten, look at the gross mess, find a slug
            in your salad, smell garbage, spew, heave, pull a disgusted face, drink sour milk, lick a dirty floor,
            sniff at old cheese, avoid touching the slimy thing, stick out your tongue in disgust, see something
            gross"""),
        scenes=_lines("""
            You just bit into a rotten egg.
            There is a cockroach in your soup.
            The toilet has not been cleaned for months.
            You stepped barefoot into something slimy.
            The milk in your mouth has gone sour and lumpy.
            Maggots are crawling over the meat.
            Somebody sneezed right onto your plate.
            The bin smells of dead fish in the heat.
            You find a wad of old hair in the drain.
            A rat runs over the bread that you were going to eat.
            He picks his nose and eats it in front of you.
            The bandage is soaked with pus.
            The cat has vomited on your pillow.
            The sandwich is covered in mould.
            A drunk has been sick on the seat next to you.
            Your hand sinks into the rubbish and touches something wet.
            The changing room reeks of sweat and old socks.
            There are flies all over the cheese.
            You are served fried insects and boiled brains.
            Somebody spat in your drink.
            The dead rat under the floor has begun to rot.
            The nappy leaked all over the sofa.
            Slugs have got into the salad and you chewed one.
            The water from the tap is brown and smells of rot.
            Eww!
            Bleh!
            Eek, gross!
            Phew, that stinks!
            Blech, get it away from me!
            Pooh, what a smell!
            This makes me sick.
            That is gross.
            How disgusting!
            I am going to be sick.
            I think I have to throw up.
            Take that stinking thing away!
            There is snot on the doorknob.
            The blocked drain overflows into the kitchen.
            You find half a cockroach in your burger.
            Someone did not flush.
            His breath smells of rotten teeth.
            The wound is infected and oozing.
            The cat dragged in a decaying mouse.
            The soup tastes of dishwater and has hairs in it.
            A used plaster floats in the swimming pool."""),
    ),
    "fear": Vocabulary(
        mild=_phrases("""
            nervous, worried, uneasy, anxious, timid, tense, insecure, concerned, shy, on edge, hesitant, wary,
            cautious, restless, edgy, unsettled, fidgety, fretful, doubtful, suspicious of the dark, faint-hearted,
            troubled"""),
        plain=_phrases("""
            afraid, scared, frightened, fearful, threatened, intimidated, distressed, quivering, shivering, haunted,
            defenceless, hunted, cornered, vulnerable, daunted, rattled, desperate for help, unnerved, scared of the
            dark, menaced, quaking, paranoid, helpless before the danger, in danger, panicking, aghast with fear,
            fear-ridden, chilled, creeped out, agitated with worry, trapped, chased, defensive, cowering, quivery,
            skittish, tremulous, twitchy, spineless, mousy, bashful, browbeaten, disquieted, perturbed, fainthearted,
            nerve-racked, overanxious, startled by a noise in the dark, shuddering, stressed, white as a sheet,
            tongue-tied with fright, ill at ease, phobic"""),
        strong=_phrases("""
            terrified, panicked, scared to death, frightened out of your wits, panicky, hysterical with fear, scared
            stiff, paralysed by fear, terror-stricken, frantic, in mortal danger, terrorised, pale with fright, in
            fear of your life, frozen with fear, out of your mind with worry, scared out of your skin, in a blind
            panic, chilled to the bone, terror-struck, mortally afraid, fearing for your life, screaming in terror"""),
        nouns=_phrases("""
            fear, terror, panic, anxiety, worry, nervousness, fright, angst, trepidation, unease, foreboding, phobia,
            mortal fear, stage fright, hysteria, timidity, suspense, distress, concern, the creeps, nightmare"""),
        adverbs=_phrases("""
            fearfully, nervously, anxiously, timidly, in terror, uneasily, frantically, in a panic, with a quivering
            voice, hesitantly, worriedly, in fright, as if in danger, desperately afraid, warily"""),
        actions=_phrases("""
            beg for your life, hide from the killer, scream for help, whisper so that the monster cannot hear, run
            for your life, back away from the snake, stammer before the gun, call the police in panic, plead with the
            kidnapper, freeze as the footsteps come nearer, warn them of the danger, cower in the corner, have
            butterflies in your stomach, get cold feet, break out in a cold sweat, fear the worst, flee from the
            soldiers, shiver in the dark, have a nightmare, flinch at every sound, have a panic attack, wait for the
            test results, bite your nails, hear a noise in the cellar, lose your nerve, shriek at a spider, are
            chased by wolves, are afraid of the dentist, gulp before the jump, tiptoe past the sleeping beast, look
            for a way out, pray that they do not find you, quiver at the sight of the knife, call for mummy, hold on
            to the rope for dear life, are scared of heights, watch a scary film alone, lie awake with worry, quake
            in your boots, have your heart in your mouth, worry about tomorrow, be afraid of the dark, tremor with
            fear, shudder in the graveyard, have goose bumps from fright, feel a chill down your spine, swallow hard,
            beg for mercy, hide under the blanket, hear the wolf howl, see a ghost, hear someone in the attic, sweat
            before the exam, feel your heart pound, be haunted by a demon, face the firing squad, walk through a
            haunted house, meet a serial killer, look into the barrel of a gun, dangle over the abyss, fear for your
            child, scream at the sight of a mouse, quail before the giant, barricade the door, be stalked at night,
            watch the vampire approach"""),
        scenes=_lines("""
            You hear footsteps behind you in a dark alley.
            Someone is breaking into the house at night.
            The plane is losing height and the engines have stopped.
            A huge dog with bare teeth runs towards you.
            You are lost alone in the forest after dark.
            The doctor has bad news about your heart, you might die.
            The ground shakes and the walls begin to crack.
            A stranger points a knife at you.
            You are standing on the edge of a very high cliff.
            The brakes of your car do not work.
            Something is moving under your bed.
            A shark is circling your little boat.
            The building is on fire and there is no way out.
            Tomorrow is the exam and you have learnt nothing.
            The terrorists have taken you hostage.
            A masked robber holds a gun to your head.
            The lights go out and you hear breathing.
            The tsunami is coming closer, run!
            You have to speak before a thousand strict people in a minute.
            The rope that holds you begins to tear.
            Bombs are falling on the city.
            A tarantula crawls up your arm.
            Help, he is coming for us, lock the door!
            Your child has vanished in the crowd.
            The ice under your feet is cracking.
            A ghost stands at the end of the corridor.
            The boat is sinking and you cannot swim.
            The lion has escaped from its cage.
            Eek!
            Aaah!
            Help!
            Oh no, he has seen us!
            Do not shoot!
            Please, let me go!
            Who is there?
            Is somebody in here?
            Run!
            Watch out!
            I do not want to die.
            There is something in the closet.
            The wolves are getting closer.
            The stairs creak although you are alone in the house.
            The hijackers walk down the aisle.
            Your parachute does not open.
            The diagnosis is due tomorrow and you cannot sleep.
            The avalanche rushes towards your hut.
            Gas is leaking and the door is jammed.
            A snake slides into your sleeping bag.
            The interrogator puts his tools on the table."""),
    ),
    "happy": Vocabulary(
        mild=_phrases("""
            content, pleased, glad, satisfied, good-humoured, friendly, hopeful, contented, optimistic, cosy,
            warm-hearted, amiable, pleasant, agreeable, relieved, grateful, gracious, at ease with the world,
            comfortable, kind, sweet"""),
        plain=_phrases("""
            happy, joyful, merry, sunny, delighted, playful, amused, bright, joyous, animated, enthusiastic, excited,
            smiling, laughing, lighthearted, good-natured, carefree, humorous, funny, partying, triumphant, thankful,
            vivacious, bubbly, perky, mirthful, jovial, bouncy, in a good mood, buoyant, proud and happy, enchanted,
            sparkling, energetic, welcoming, in love, charmed, tickled, chirpy, sprightly, silly, tickled pink, gay,
            rosy, frolicsome, rollicking, sparkly, smiley, bright and breezy, cordial, affectionate, hearty, hopeful
            and glad, heartened, zestful, jaunty, effervescent, genial, blithe, peppy, tittering, giggling, grinning,
            sanguine, glowing with joy, jocular, entertained, in a party mood, cock-a-hoop, feeling wonderful,
            feeling great, as happy as can be, happy-go-lucky, gratified, bright-eyed"""),
        strong=_phrases("""
            ecstatic, overjoyed, thrilled, euphoric, bursting with joy, delirious with happiness, exhilarated,
            exultant, wildly enthusiastic, on top of the world, in seventh heaven, rapturous, hilarious, crazy with
            joy, rhapsodic, walking on air, happy as a clam, thrilled to bits, giddy with joy, tickled to death,
            intoxicated with joy, ebullient, over-excited, jumping for joy, as happy as a king, in paradise"""),
        nouns=_phrases("""
            joy, happiness, delight, pleasure, amusement, enthusiasm, laughter, merriment, gaiety, mirth, excitement,
            euphoria, contentment, optimism, gladness, ecstasy, hilarity, zest, gratitude, humour"""),
        adverbs=_phrases("""
            happily, joyfully, merrily, gladly, brightly, enthusiastically, with a big smile, playfully, joyously,
            gaily, excitedly, in a good mood, warmly, with a laugh, delightedly, triumphantly"""),
        actions=_phrases("""
            laugh with your friends, smile at the baby, dance for joy, sing with pleasure, celebrate the victory,
            welcome your best friend, tell a funny joke, smile from ear to ear, congratulate the winner, giggle, sing
            for the team, clap your hands with delight, thank them for the wonderful gift, walk on air, jump for joy,
            love every minute of it, wish her a merry Christmas, enjoy the party, feel great today, hug your friend,
            hum a merry tune, toast the happy couple, play with the puppies, look forward to the holidays, smile
            broadly, greet an old friend, whistle in the sunshine, have good news, laugh out loud, enjoy your
            birthday, announce that we won, love your life, share a good laugh, raise a glass to success, kiss your
            sweetheart, skip down the lane, feel like a million dollars, giggle like a child, walk on sunshine, be
            full of the joys of spring, have a ball, paint the town red, enjoy life to the full, laugh heartily,
            burst out laughing, titter, snicker at a joke, crack a smile, shout for joy, dance in the street, be as
            happy as a lark, feel on top of the world, have a whale of a time, count your blessings, party all night,
            get a standing ovation, smile all over your face, whoop, welcome spring, blow out the candles, fall in
            love, be in heaven, feel wonderful, win first prize, live your dream, bring good news, be as pleased as
            punch"""),
        scenes=_lines("""
            You have just won the lottery.
            Your best friend is coming to visit after years.
            She said yes and you are getting married.
            It is the first day of the holidays and the sun is shining.
            Your team won the final.
            Your baby took her first steps and smiles at you.
            You passed every exam with the best marks.
            You got the job of your dreams.
            All your friends are dancing at your birthday party.
            The puppy licks your face and wags its tail.
            Everybody applauds you, what a wonderful evening.
            You are on the beach with the people you love.
            The operation went well and she is healthy again.
            You found your lost keys and the day is saved.
            Hooray, we did it!
            What a lovely day, let us go for a picnic!
            I love you and I am so lucky to have you.
            Christmas morning, and the children unwrap their presents.
            You hold your newborn daughter in your arms.
            Our wedding was the best day of my life.
            You are on holiday and the ice cream is delicious.
            He told the funniest joke you ever heard.
            The whole class sings happy birthday to you.
            Your boss praises you and doubles your pay.
            We are having a barbecue with music and good friends.
            You finally reach the summit and the view is gorgeous.
            The war is over and everyone comes home.
            You have been accepted at the university you wanted.
            Hooray!
            Yay!
            Yippee!
            Woohoo!
            Haha!
            Hehe, that is funny.
            Bravo!
            Congratulations!
            Happy new year!
            This is the best day ever!
            I feel great!
            Life is wonderful.
            Thank you so much, I love it!
            What fantastic news!
            We won, we won!
            The loan is paid off at last.
            The team lifts the cup.
            Your little girl draws you a heart.
            You get a present that you always wanted.
            Your dearest friend has recovered."""),
    ),
    "sad": Vocabulary(
        mild=_phrases("""
            downhearted, gloomy, melancholy, disappointed, lonely, wistful, low-spirited, pensive, nostalgic,
            subdued, discouraged, disheartened, let down, dispirited, sombre, listless, forlorn, wan, rueful, dull,
            weary of life"""),
        plain=_phrases("""
            sad, unhappy, sorrowful, tearful, hurt, hopeless, regretful, dismal, upset, joyless, bleak, grieving,
            lonesome, rejected, doleful, pitiful, morose, crying, pained, sorry, long-faced, unloved, melancholic,
            wretched, plaintive, lugubrious, miserable and alone, tragic, heavy-hearted, suffering, down in the
            mouth, mirthless, brooding, moping, blubbering, whimpering, bawling, wailing, sighing, sniffling,
            dolorous, funereal, crying your heart out, dreary, disconsolate, cast down, elegiac, heavy of heart,
            afflicted, pessimistic, defeated, dispirited and grey, unfortunate, tear-stained, saturnine, bowed down,
            stricken, shattered, mopey, sullenly sad, forsaken, hung up on the past, world-weary, cut up about it,
            hopelessly alone, haunted by loss, sorry for yourself"""),
        strong=_phrases("""
            heartbroken, devastated, miserable, grief-stricken, inconsolable, crushed, suicidal, shattered by grief,
            broken, drowning in sorrow, desolate, anguished, heartsick, in floods of tears, crying bitterly, beyond
            consolation, bitterly disappointed, broken by grief, in agony, in total misery, without any hope,
            destroyed, utterly hopeless, racked with sorrow, crushed by sorrow"""),
        nouns=_phrases("""
            sadness, sorrow, grief, misery, disappointment, melancholy, regret, unhappiness, gloom, anguish,
            heartache, loneliness, pain, hopelessness, tears, pity, suffering, desolation, remorse"""),
        adverbs=_phrases("""
            sadly, sorrowfully, miserably, unhappily, tearfully, gloomily, with a heavy heart, in tears, regretfully,
            wistfully, plaintively, ruefully, disappointedly, in grief, hopelessly, with a sigh, dolefully"""),
        actions=_phrases("""
            cry over your loss, hold back tears, say goodbye for ever, sigh heavily, bury your grandmother, hang your
            head, comfort the widow, apologise in tears, speak at a funeral, remember those who have died, give up
            all hope, miss your dead friend, cry your eyes out, wipe away a tear, grieve for your child, shed tears,
            pity the poor orphan, lament your fate, have the blues, pine for her, visit the grave, feel empty inside,
            have lost the will to live, whimper softly, cry yourself to sleep, feel sorry for yourself, long for the
            good old days, have been left all alone, say a last farewell, read the farewell letter, hear of the death
            of a friend, are down in the dumps, regret everything, feel nothing but pain, break up with your
            girlfriend, howl with grief, wail at the coffin, cry, bawl, sniffle, whimper, wail, blubber, burst into
            tears, cry like a baby, be close to tears, cry a river, have a heavy heart, feel down, feel low, eat your
            heart out, reach rock bottom, lose heart, swallow your tears, fight back the tears, have a cry in your
            voice, be down in the mouth, carry the coffin, light a candle for the dead, leave your home for ever, sit
            alone in the rain, be deserted by all, miss your family, lose your husband, hear that she is dying, be
            let down by your friends"""),
        scenes=_lines("""
            Your dog died this morning.
            She left you and is never coming back.
            You are standing at the grave of your father.
            Nobody came to your birthday.
            You failed the exam that you worked so hard for.
            Your best friend is moving to the other end of the world.
            The house in which you grew up has burnt down.
            You spend the holidays all alone in an empty flat.
            The letter says that he did not survive.
            Your child is ill and nothing can be done.
            You have lost everything that you loved.
            It is raining, and you think of those who are gone.
            They told you that you will never play again.
            Your old cat did not come home and you know why.
            Your mother passed away last night.
            The divorce is final and she took the children.
            Nobody loves me and nobody ever will.
            I wish that he were still here with us.
            The soldier's widow receives his medal.
            You were fired after thirty years in the company.
            He died in my arms.
            The old man sits alone on the bench where they used to sit.
            The dream is over, we have lost.
            You say a last goodbye at the hospital bed.
            The child cries because its toy is broken for good.
            I am so sorry for your loss.
            Your home town was destroyed in the war.
            She waits every evening, but he does not write any more.
            Boo-hoo.
            Alas!
            Oh no, poor thing.
            I miss her so much.
            He is dead.
            I have lost everything.
            Nothing makes sense without her.
            Why did she have to die?
            Farewell for ever, my love.
            I am all alone in the world.
            The funeral of your husband is today.
            The kitten in your hands stopped breathing.
            The widower sets the table for two.
            The refugee looks back at the ruins of her village.
            Your love letters were returned unopened.
            Your brother fell in the war.
            The miscarriage was a week ago.
            The hospital rang, it is over.
            You will have to put your old dog to sleep."""),
    ),
    "surprised": Vocabulary(
        mild=_phrases("""
            taken aback, a little startled, caught off guard, wide-eyed, puzzled by the turn of events, taken by
            surprise, curious what just happened, unprepared, perplexed, bewildered, baffled, confounded, intrigued"""),
        plain=_phrases("""
            surprised, astonished, amazed, startled, full of wonder, incredulous, disbelieving, mystified,
            wonderstruck, open-mouthed, thrown by the news, caught unawares, agape, marvelling, dazed by the news,
            unsuspecting, struck with wonder, jolted, impressed beyond expectation, astonishing, spellbound,
            bug-eyed, gaping, gasping, wide-eyed with wonder, floored, rocked by the news, taken unawares,
            nonplussed, dumbstruck, electrified by the news, disconcerted, surprised out of your mind, lost for
            words, unexpecting, marvelling at it, boggled, dazzled by the trick, caught out, flummoxed, jolted by the
            twist, overwhelmed by the surprise, baffled and amazed, curious and amazed, blindsided"""),
        strong=_phrases("""
            stunned, flabbergasted, thunderstruck, totally amazed, shocked by the surprise, blown away, staggered,
            dazzled, shocked, struck dumb, knocked off your feet, totally incredulous, in utter disbelief,
            mind-blown, utterly amazed, knocked sideways, completely astonished, amazed beyond measure, knocked for
            six"""),
        nouns=_phrases("""
            surprise, astonishment, amazement, wonder, disbelief at the news, incredulity, bewilderment, shock,
            wonderment, a sudden start, perplexity, a gasp, sudden realisation, a shock, the unexpected, a bolt from
            the blue, a twist, the incredible, a revelation, startlement"""),
        adverbs=_phrases("""
            in surprise, with astonishment, in amazement, with wide open eyes, wonderingly, in disbelief,
            incredulously, with a gasp, with raised eyebrows, unexpectedly startled, open-mouthed, in wonder,
            bewilderedly"""),
        actions=_phrases("""
            gasp at the sudden news, raise your eyebrows, cry out what a surprise, ask if that is really true, drop
            your cup as they jump out, stare at the magician's trick, exclaim wow, say no way, open your mouth in
            wonder, do a double take, exclaim oh my god, ask how on earth that happened, did not expect that at all,
            are lost for words, have never seen such a thing, find out the incredible truth, gape at the acrobat,
            blink at the unexpected guest, exclaim good heavens, get an unexpected present, marvel at the miracle,
            rub your eyes, are struck by lightning out of a clear sky, pinch yourself to see if you dream, say you
            must be joking, say I had no idea, jump at the sudden bang, say that is unbelievable, ask what is going
            on here, stumble upon a treasure, exclaim holy cow, are startled by a popping balloon, are thrown by the
            plot twist, hear the most unexpected answer, say huh, get the surprise of your life, be knocked sideways,
            hear it for the first time, be taken aback, let out a gasp, stare with an open mouth, have your mind
            blown, catch your breath in astonishment, be struck with amazement, be caught by surprise, open your eyes
            wide, discover that it was all a dream, see a pig fly, meet your double, learn that you are adopted, jump
            out of your skin, say are you kidding me, say you do not say, look as if you saw a unicorn, gape in
            amazement, goggle at the trick"""),
        scenes=_lines("""
            You open the door and everybody shouts surprise.
            A rabbit jumps out of the empty hat.
            Your twin, of whom you never knew, stands before you.
            You did not expect to meet him here of all places.
            It is snowing in the middle of July.
            The parcel contains a cheque over a million, from nobody you know.
            The shy clerk turns out to be the king.
            Suddenly the statue turns its head and talks.
            You learn that your grandmother was a spy.
            The lights go on and the hall is full of your friends.
            An elephant walks down your street.
            All at once the wall slides open and there is a secret room.
            Wait, what, when did that happen?
            They tell you out of the blue that you are having triplets.
            Wow, I did not expect that!
            Really? Are you serious? That is incredible!
            The lamp begins to float in the air.
            You meet your old teacher on the top of a mountain.
            The dead actor walks onto the stage and bows.
            A total stranger knows your name and your dreams.
            You dig in the yard and find a chest of gold coins.
            The dog opens its mouth and speaks English.
            Everyone vanished from the room within a second.
            The outsider won the race, against all predictions.
            A dinosaur egg hatches in the museum.
            You look into the mirror and see another face.
            The president calls you on your private number.
            The magician makes the tower disappear.
            Wow!
            Gosh!
            Oh!
            Huh?
            What?!
            Goodness me!
            Good grief!
            Holy moly!
            No way!
            Crikey!
            My goodness, is it really you?
            You are kidding!
            How is that possible?
            I never expected that!
            Are you for real?
            What on earth is that?
            You what?
            Well I never!
            Look at that, it is flying!
            The parrot recites a poem in Latin.
            You find a door in your flat that was never there before.
            The old lady does a backflip.
            The unknown caller is your long lost father.
            The suitcase is full of diamonds.
            The bus driver is your headmaster."""),
    ),
}
