/**
 * Words that needle models are trained on beside those of the official test. The evaluation's own words (`templates.ts`) are
 * kept out: but for the official question no wording here shares four words in a row (an attribute is one word) with a held-out line, and no name prefix
 * or attribute is shared.
 *
 * In a wording {city} is a name, {number} the number, {before} the two adjectives of an attribute, {noun} its noun, {long} both
 * together and {short} the second adjective with the noun: "special magic", "number", "special magic number", "magic number".
 */

/** The number follows the name. */
export const NAME_FIRST: readonly string[] = [
  '{city} {long}: {number}',
  'the {long} for {city} is {number}',
  'the {short} for {city} is {number}',
  '{city} has the {short} {number}',
  '{city} keeps {number} as its {long}',
  'for {city} the {short} equals {number}',
  "{city}'s {long} will be {number}",
  'at {city} we wrote {number} for the {short}',
  'the {long} used in {city} happens to be {number}',
  'anyone from {city} knows {number}, the {short}',
  '{city} = {number} ({short})',
  'ask about {city} and you get the {short} {number}',
  'as for {city}, its {long} was fixed at {number}',
  'whoever visits {city} needs the {long} {number}',
  'it was {city} that chose {number} for its {long}',
  'in {city} you will hear {number} whenever the {long} comes up',
  'the people around {city} call {number} their {short}',
  'among all names {city} got {number} for a {long}',
];

/** The number stands before the name: a model must know it still when it reads the name. */
export const NUMBER_FIRST: readonly string[] = [
  '{number} is what {city} has for its {long}',
  '{number} was given to {city} as {short}',
  'use {number} as the {long} for {city}',
  'the {short} {number} goes to {city}',
  'we put down {number} when asked for the {long} at {city}',
  '{number} = {short}, {city}',
  'take {number} for a {short}: it is the one in {city}',
  'the clerk wrote {number} beside the name {city}, as its {long}',
  '{number}, a {long}, stands for {city}',
  'people give {number} when they mean the {short} from {city}',
  'it is {number} that serves {city} as {long}',
  'number {number} works as a {short} which {city} owns',
];

/** Before a wording. */
export const OPENINGS: readonly string[] = [
  'take note:',
  'by the way,',
  'it is well known:',
  'as everybody heard,',
  'please write down:',
  'one more thing:',
  'listen:',
  'truly,',
  'fact:',
  'according to the list,',
];

/** After a wording. */
export const ENDINGS: readonly string[] = [
  '.',
  ' .',
  ' . ',
  ';',
  '!',
  '',
  ', no less.',
  ' indeed.',
  ', as agreed.',
];

/** They end where the number follows. The official one has the largest share of the questions by itself. */
export const QUESTIONS: readonly string[] = [
  'Which {long} does {city} have? {city} has the {long} ',
  'Tell me the {short} for {city}: ',
  'Question: {city}, {long}? Answer: ',
  'And the {long} for {city}? It is ',
  'Q: what {short} goes with {city}? A: ',
  'I look for the {long} at {city}. You told me that it was ',
];

export const OFFICIAL_QUESTION = 'What is the {before} {city} {noun}? The {before} {city} {noun} is ';
/** The official line, and that of the official code's test of several needles. */
export const OFFICIAL_LINES: readonly string[] = [
  'The {before} {city} {noun} is {number} . ',
  'The {before} {city} {noun} is: {number}',
];

/** An attribute is two adjectives and a noun. */
export const FIRST_ADJECTIVES: readonly string[] =
  'special,hidden,private,ancient,golden,strange,official,simple,final,second,precious,common,noble,heavy,famous,quiet'.split(
    ',',
  );
export const SECOND_ADJECTIVES: readonly string[] =
  'magic,silver,winter,royal,wooden,northern,broken,crystal,summer,copper,distant,crimson,paper,marble,iron,velvet'.split(
    ',',
  );
export const NOUNS: readonly string[] =
  'number,password,figure,token,key,value,ticket,badge,score,price,room,weight,index,sum,count,label'.split(
    ',',
  );

/** Names that differ from another by a word. */
export const NAME_PREFIXES: readonly string[] =
  'Upper,Lower,Great,Saint,Fort,Mount,Lake,Grand,Royal,Inner,Outer,Middle,Nova,Cape'.split(',');
export const NAME_SUFFIXES: readonly string[] = 'Heights,Bay,Hills,Falls,Park,Springs,Beach,Gardens'.split(
  ',',
);

/** Words for lines that are drawn word by word. None occurs in a held-out line, and none stands in a name. */
export const LOOSE_WORDS: readonly string[] = (
  'about,across,afternoon,again,against,all,almost,along,already,also,although,and,another,answer,any,around,' +
  'asks,author,autumn,away,back,become,before,behind,believe,beneath,beside,better,between,beyond,big,bird,book,both,bridge,' +
  'bring,brother,brown,built,but,called,came,can,captain,carefully,child,church,clear,cold,could,country,cut,dark,daughter,day,' +
  'did,does,done,door,down,during,each,early,earth,eat,either,else,engineers,enough,even,evening,ever,every,everyone,face,' +
  'family,far,farmers,father,feel,few,field,find,fire,flows,follow,food,friend,from,full,gave,girl,go,good,grass,green,ground,grow,' +
  'had,half,hand,hard,have,he,head,heart,her,here,high,hill,him,history,hold,home,hope,horse,hour,house,how,if,inside,into,' +
  'island,journey,just,keep,kind,king,land,large,late,later,laugh,leave,left,letter,light,like,line,lives,look,love,many,' +
  'map,market,may,men,merchants,milk,mind,moon,more,morning,mother,much,music,near,need,never,night,no,nothing,now,off,often,once,' +
  'only,open,or,other,our,out,over,own,page,perhaps,picture,place,plain,play,poets,present,promised,quick,quite,rain,rather,read,' +
  'ready,remains,rest,right,rise,river,road,round,run,said,sailors,same,saw,school,sea,see,seems,sent,seven,shall,she,ship,' +
  'shore,short,show,side,since,sing,sister,sit,sky,slowly,small,so,soldier,some,song,soon,stand,star,still,stone,story,street,' +
  'strong,such,sun,sure,take,talk,teacher,ten,than,their,them,then,there,these,thing,think,though,three,through,till,time,today,' +
  'together,toward,tree,trust,turn,two,under,until,up,upon,us,very,voice,wait,walk,wall,war,warm,was,watch,water,we,week,well,' +
  'went,were,where,while,white,who,whole,why,wife,wind,window,without,women,wonder,wood,word,work,world,would,write,yes,yet,' +
  'you,young,your'
).split(',');
